//! End-to-end claims about a real mesh: one binary, one module for each topic.

mod crashes;
mod drain;
mod impostors;
mod issuance;
mod joining;
mod judges;
mod live_connections;
mod outage;
mod policy;
mod pressure;
mod protocols;
mod renewal;
mod smoke;
mod tcp;
