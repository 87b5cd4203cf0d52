//! End-to-end claims about a real mesh: one binary, one module for each topic.

mod bad_frames;
mod bad_http;
mod crashes;
mod drain;
mod floods;
mod h2spec;
mod handshakes;
mod impostors;
mod issuance;
mod joining;
mod judges;
mod live_connections;
mod observability;
mod other_users;
mod outage;
mod policy;
mod pressure;
mod protocols;
mod refused_starts;
mod renewal;
mod sandbox;
mod smoke;
mod smuggling;
mod takeover;
mod tcp;
