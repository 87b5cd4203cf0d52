//! Endpoints as agents are told of them.

use identity::QualifiedName;
use proto::mesh::v1 as wire;

use super::{Endpoint, Published};

impl Published {
    pub(in crate::watch) fn wire(
        &self,
        service: &QualifiedName,
        replica: &str,
    ) -> wire::ServiceEndpoints {
        wire::ServiceEndpoints {
            namespace: service.namespace.to_string(),
            service: service.name.to_string(),
            generation: self.generation,
            endpoints: self.endpoints.iter().map(Endpoint::wire).collect(),
            source: replica.to_owned(),
        }
    }
}

impl Endpoint {
    fn wire(&self) -> wire::Endpoint {
        let ports = self.ports.iter();
        wire::Endpoint {
            address: self.address.clone(),
            ports: ports
                .map(|(name, port)| (name.clone(), u32::from(*port)))
                .collect(),
            zone: self.zone.clone(),
        }
    }
}
