//! What the integration tests of this crate stand on.

pub(crate) mod plant;
pub(crate) mod sshd;
