//! Faults of real processes, each of which ends with the invariants.

mod clocks;
mod failover;
mod full_disk;
mod gate;
mod hosts;
mod kills;
mod leases;
mod log_steps;
mod recovery;
mod replicated;
mod rotation;
