//! Faults of real processes, each of which ends with the invariants.

mod clocks;
mod full_disk;
mod hosts;
mod kills;
