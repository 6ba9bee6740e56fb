//! Nodes on elements and disks in memory, told as facts.

mod asking;
mod fixture;
mod generations;
mod jumping;
mod lending;
mod management;
mod renewal;
mod routing;
mod slow;
mod streams;
mod writing;
