//! What the engine promises, told as facts about a few members of one relationship.

mod advance;
mod behind;
mod export;
mod failure;
mod fixture;
mod follow;
mod jumps;
mod lend;
mod one;
mod receive;
mod resync;
mod schedules;
mod start;
mod table;
mod unseal;
mod work;
