//! Which policy engines the proxies of an agent have, and how people are told of them.

use std::fmt;

use identity::SpiffeId;

use super::{AttachedProxy, ConnectedAgent};

/// A proxy of an agent; or all of an agent that cannot name them, by the oldest.
#[derive(Clone, Copy, Debug)]
pub struct ProxyEngine<'a> {
    pub engine: u32,
    agent: &'a SpiffeId,
    proxy: Option<&'a AttachedProxy>,
}

impl ConnectedAgent {
    pub fn engines(&self) -> impl Iterator<Item = ProxyEngine<'_>> {
        let agent = &self.agent;
        let named = self.proxies.iter().flatten().map(move |proxy| ProxyEngine {
            engine: proxy.engine_version,
            agent,
            proxy: Some(proxy),
        });
        // 0: it has no proxy.
        let engine = self.introduction.engine_version;
        let unnamed = (self.proxies.is_none() && engine != 0).then_some(ProxyEngine {
            engine,
            agent,
            proxy: None,
        });
        named.chain(unnamed)
    }
}

impl fmt::Display for ProxyEngine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (agent, engine) = (self.agent, self.engine);
        match self.proxy {
            None => write!(f, "proxies of {agent} (engine {engine})"),
            Some(proxy) => {
                let (workload, product) = (&proxy.workload, &proxy.product);
                write!(
                    f,
                    "the proxy of {workload} at {agent} (engine {engine}, {product})"
                )
            }
        }
    }
}
