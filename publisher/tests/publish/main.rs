//! The program as a whole, against a relay's side of the protocol that subscribes to everything.

mod errors;
mod process;
mod relay;
mod sources;
