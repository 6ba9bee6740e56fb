//! What the engine promises, told as facts about a few members of one relationship.

mod advance;
mod behind;
mod failure;
mod fixture;
mod lend;
mod one;
mod receive;
mod resync;
mod schedules;
mod start;
mod table;
mod work;
