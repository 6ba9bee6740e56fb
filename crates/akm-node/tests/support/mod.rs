//! A device in a directory of its own, the module's side of its relationships in memory, and a network
//! that remembers. Nothing here waits or listens.
#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

mod device;
mod module;
mod network;

pub(crate) use device::{Device, private_modes};
pub(crate) use module::{Link, Module, Relationship, challenge, random_id, random_relationship};
pub(crate) use network::{
    Prompt, Recorded, Station, address, exchange, two_stations, two_stations_that_rotate_after,
};
