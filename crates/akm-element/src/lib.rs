//! The secure elements that an AKM node can keep its roots in.
//!
//! An element is named in one line of text ([`ElementSpec`]); opened, it is a
//! [`ProvisionableElement`] whatever its kind:
//!
//! ```text
//!   "software"  "software:passphrase-file=/abs/path"
//!        |
//!   ElementSpec ---- create (enrolment) / open (every later start) ---- Box<dyn ProvisionableElement>
//! ```
//!
//! What it promises: what an element says is done is durable; what it says has failed has changed
//! nothing that the caller can see; damaged content is recognised and never used; nothing secret is
//! in an error or in `Debug`. Each element passes one suite (module `conformance`, behind the feature
//! of that name), so that a caller need not know which one it has.
//!
//! What it does not do: decide anything about the protocol, or keep a second program away from the
//! same element. The caller holds a lock for that.

#[cfg(feature = "card")]
pub mod card;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "software")]
mod list;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
#[cfg(feature = "software")]
mod random;
#[cfg(feature = "software")]
mod roots;
#[cfg(feature = "software")]
pub mod software;
#[cfg(feature = "software")]
mod spec;
#[cfg(feature = "tpm2")]
pub mod tpm2;
#[cfg(feature = "software")]
mod wrap;

pub use akm_core::element::ProvisionableElement;
#[cfg(feature = "software")]
pub use list::{ElementIdentity, Listed, list};
#[cfg(feature = "software")]
pub use random::{SystemRandom, random};
#[cfg(feature = "software")]
pub use spec::{ElementSpec, InvalidElementSpec};
#[cfg(feature = "software")]
pub use wrap::{WrapError, WrapKeys, wrap};
