//! Generated messages and services. No logic lives here: each crate turns these into its own
//! types at the door and refuses what does not fit.
#![expect(
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

pub mod codec;
mod secrets;

/// The SPIFFE Workload API (SPIFFE_Workload_API.md).
pub mod spiffe {
    tonic::include_proto!("_");
}

/// Agent and CA.
pub mod agent {
    pub mod v1 {
        tonic::include_proto!("countersign.agent.v1");
    }
}

/// Agent and proxy.
pub mod mesh {
    pub mod v1 {
        tonic::include_proto!("countersign.mesh.v1");

        /// What this build speaks.
        pub const PROTOCOL: ProtocolVersion = ProtocolVersion { major: 1, minor: 4 };

        impl ProtocolVersion {
            /// Minor versions within two of each other interoperate.
            pub fn interoperates_with(self, other: Self) -> bool {
                self.major == other.major && self.minor.abs_diff(other.minor) <= 2
            }

            /// Whether whoever speaks this answers announcements with `Announced`.
            pub fn confirms_announcements(self) -> bool {
                self.minor >= 1
            }

            /// Whether a CA that speaks this reads the subscriptions of a `Hello`.
            pub fn reads_first_subscriptions(self) -> bool {
                self.minor >= 2
            }

            /// Whether whoever speaks this obeys deny-lists and takes `RevocationLists`.
            pub fn obeys_deny_lists(self) -> bool {
                self.minor >= 4
            }

            /// Whether a CA that speaks this takes `Sightings`.
            pub fn takes_sightings(self) -> bool {
                self.minor >= 4
            }

            /// Whether a CA that speaks this takes `Proxies`.
            pub fn takes_proxies(self) -> bool {
                self.minor >= 2
            }
        }
    }
}

/// A proxy and a trace collector: the part of OTLP that spans need.
pub mod otlp {
    pub mod v1 {
        tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
    }
}
