//! Who may call whom: the objects that people write, the rules by which they are refused at
//! write time, and the one evaluator that proxy, CA, CLI and tests share.
//!
//! The crate is pure: no IO, no clock, no randomness. Unknown means deny: a snapshot that cannot
//! be read whole denies everything, and says why.

pub mod path;
pub mod resource;

mod about_the_way;
mod decision;
mod engine;
mod explain;
mod last_decision;
mod parse;
mod question;
mod revision;
mod routing;
mod snapshot;
mod world;

pub use about_the_way::is_about_the_way;
pub use decision::{
    Decision, DecisionId, DenyReason, Indeterminate, InvalidDecisionId, Rule, Verdict,
};
pub use engine::{DENY_LIST_ENGINE, ENGINE_VERSION};
pub use explain::{
    Arrival, Departure, Entrance, EntranceExplanation, ExitExplanation, ExitMiss, Explanation,
    GatewayCall, MirrorExplanation, NearMiss, RouteExplanation, RouteMiss, RoutedTo, RuleRef,
};
pub use last_decision::LastDecision;
pub use parse::{ParseCode, ParseError, parse_documents, parse_json};
pub use path::{CanonicalPath, PathAmbiguous, PathTemplate, split_target};
pub use question::{HeaderLookup, HeaderValues, Question, Request, RequestPath, Target};
pub use resource::{
    API_VERSION, AllowRule, Backend, Backoff, Balance, Baseline, Breaker, Bulkhead,
    CertificateFiles, DenyRule, External, ExternalTls, Fault, FaultAbort, FaultDelay, Fraction,
    Gateway, GatewayListener, GatewayRoute, GrpcMethod, HeaderChanges, HealthCheck, Hedge,
    HttpMatch, InvalidName, KeyType, Kind, KindError, Mirror, ObjectKey, Policy, Port, PortName,
    Protocol, Rate, RateLimit, Resource, Retry, RetryBudget, RetryMethods, RetryOn, Roots, Route,
    RouteRule, RuleId, Scope, Selectors, Service, Source, StaticEndpoint, SuccessRate, TargetRef,
    Timeouts, Traffic, UnixSelector, Workload,
};
pub use revision::{InvalidRevision, Revision};
pub use routing::{Followed, RouteRules};
pub use snapshot::PolicySnapshot;
pub use world::{Change, Changed, MeshNames, ObjectSet, Outcome, Refusal, RefusalCode};
