//! What the integration tests of this crate stand on.

pub(crate) mod damage;
pub(crate) mod disk;
pub(crate) mod elements;
pub(crate) mod faults;
pub(crate) mod flood;
pub(crate) mod plant;
pub(crate) mod scene;
pub(crate) mod serving;
pub(crate) mod sshd;
pub(crate) mod story;
pub(crate) mod untouched;
pub(crate) mod whole;
pub(crate) mod wire;
