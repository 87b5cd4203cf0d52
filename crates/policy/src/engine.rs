//! The versions of this evaluator, and which of them an object needs.
//!
//! Invariant: a configuration states the version that its objects need, so that an older evaluator
//! denies instead of leaving out what it cannot obey, and obeys all that it can.

use crate::resource::{Resource, Traffic};

/// What this evaluator reads and obeys. A configuration that needs more is denied.
///
/// * 1: Workload, Policy, Baseline, and of a Service its workloads, ports and endpoints.
/// * 2: Route, Gateway and External, and what a port of a Service says of traffic.
/// * 3: deny-lists.
pub const ENGINE_VERSION: u32 = 3;

/// What a deny-list needs that names somebody.
pub const DENY_LIST_ENGINE: u32 = 3;

/// Who decided, in explanations and decision ids.
pub(crate) const EVALUATOR: &str = "countersign-policy engine 3";

impl Resource {
    /// The lowest engine that obeys this object.
    pub fn engine_version(&self) -> u32 {
        let second = match self {
            Self::Service(it) => it
                .ports
                .iter()
                .any(|port| port.traffic != Traffic::default()),
            Self::Route(_) | Self::Gateway(_) | Self::External(_) => true,
            Self::Workload(_) | Self::Policy(_) | Self::Baseline(_) => false,
        };
        if second { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::parse_json;

    fn engine_of(kind: &str, spec: &Value) -> u32 {
        let object = json!({
            "apiVersion": "countersign.dev/v1", "kind": kind,
            "metadata": {"namespace": "shop", "name": "orders"}, "spec": spec,
        });
        parse_json(&object).unwrap().engine_version()
    }

    fn service(port: &Value, endpoint: &Value) -> u32 {
        let mut ports = json!({"name": "http", "port": 80, "protocol": "http"});
        ports
            .as_object_mut()
            .unwrap()
            .extend(port.as_object().unwrap().clone());
        let mut endpoints = json!({"address": "10.0.0.7", "ports": {"http": 31006}});
        endpoints
            .as_object_mut()
            .unwrap()
            .extend(endpoint.as_object().unwrap().clone());
        let spec =
            json!({"workloads": ["shop/orders"], "ports": [ports], "endpoints": [endpoints]});
        engine_of("Service", &spec)
    }

    #[test]
    fn what_a_service_says_of_traffic_needs_the_second_engine() {
        assert_eq!(
            service(&json!({"rateLimit": {"requestsPerSecond": 5}}), &json!({})),
            2
        );
        assert_eq!(
            service(&json!({"balance": {"algorithm": "random"}}), &json!({})),
            2
        );
        let route = json!({"service": "orders", "port": "http", "rules": [{"backends": [{"service": "orders"}]}]});
        assert_eq!(engine_of("Route", &route), 2);
    }

    #[test]
    fn what_the_first_engine_obeys_needs_no_other() {
        assert_eq!(service(&json!({}), &json!({"zone": "a"})), 1);
        assert_eq!(
            service(&json!({"balance": {"algorithm": "ewma"}}), &json!({})),
            1
        );
        let policy = json!({"targets": [{"service": "orders", "port": "http"}], "allow": []});
        assert_eq!(engine_of("Policy", &policy), 1);
        let workload = json!({"selectors": {"unix": {"uid": 1000}}});
        assert_eq!(engine_of("Workload", &workload), 1);
    }
}
