//! A PKCS#11 token as a secure element.
//!
//! ```text
//!   prepare    a fresh transport key on the token, its public part to the module
//!   wrap       the module encrypts the root to that key (RSA-OAEP)
//!   install    C_UnwrapKey: the root is on the token, and never comes out; the transport key is destroyed
//!   derive     C_Sign with CKM_SHA256_HMAC
//! ```
//!
//! All that an element holds is on the token, under the labels `akm root`, `akm device` and `akm transport`; nothing
//! is in the state directory. A token is the element of one node. It has no counter: that a disk was set back is
//! recognised by the neighbours only.
//!
//! Who has the PIN can use the roots, install others and erase them, but not read them. What `prepare` gives is not
//! attested: who controls the host at that moment can put a key of his own in its place.

mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod material;
mod module;
mod object;
mod spec;
mod token;
mod transport;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use akm_core::element::{
    Description, ElementError, Label, MonotonicCounter, ProvisionableElement, Root, SecureElement,
};
use akm_core::keys::CONTEXT_LENGTH;
use akm_core::secret::Secret;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use failure::Failure;
use material::Wrapped;
pub use material::wrap;
pub use module::{ListedToken, list, modules};
use object::Name;
pub use spec::Pkcs11Spec;
use token::{Connection, Token};

/// A PKCS#11 token as a secure element.
///
/// A session that got lost, because the token was taken out and put in again or another program logged out, is
/// opened again once when it is next needed.
pub struct Pkcs11Element {
    token: Token,
    description: Description,
}

impl Pkcs11Element {
    /// Opens the element of an enrolled node, which must exist: a token without a device key is another one, or was
    /// erased. Nothing of it is in the state directory.
    pub fn open(spec: &Pkcs11Spec, _state_dir: &Path) -> Result<Self, ElementError> {
        let mut element = Self::connect(spec)?;
        let is_there = element.token.with(|connection| {
            for object in object::find(&connection.session, Name::Device)? {
                if object::fingerprint(&connection.session, object)?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if is_there {
            return Ok(element);
        }
        Err(ElementError::Unavailable(format!(
            "token {:?} (serial {}) holds no device key: it is not the token of this node, or it was erased; plug in \
             the right one, or provision the node again",
            spec.token(),
            element.description.serial
        )))
    }

    /// Checks that the token can be an element and that the PIN opens it. There is nothing to make.
    pub fn create(spec: &Pkcs11Spec, _state_dir: &Path) -> Result<Self, ElementError> {
        Self::connect(spec)
    }

    /// What the token says of itself, fit or not. Needs no PIN and changes nothing.
    pub fn describe(spec: &Pkcs11Spec) -> Result<Description, ElementError> {
        let library = module::load(spec.module_path())?;
        let (slot, token) = module::find(&library, spec)?;
        Ok(module::description(&library, slot, &token))
    }

    /// Erases all that is AKM's from the token, and nothing else. Repeating changes nothing.
    pub fn discard(spec: &Pkcs11Spec, _state_dir: &Path) -> Result<(), ElementError> {
        Self::connect(spec)?.token.with(|connection| {
            connection.known.clear();
            for label in [object::TRANSPORT_LABEL, object::ROOT_LABEL, object::DEVICE_LABEL] {
                let found = object::find_labelled(&connection.session, label)?;
                object::destroy(&connection.session, &found)?;
            }
            Ok(())
        })
    }

    fn connect(spec: &Pkcs11Spec) -> Result<Self, ElementError> {
        let mut token = Token::new(spec);
        let description = token.with(|connection| Ok(connection.description.clone()))?;
        Ok(Self { token, description })
    }
}

impl SecureElement for Pkcs11Element {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        if context.len() > CONTEXT_LENGTH {
            return Err(ElementError::Refused(format!("a context has at most {CONTEXT_LENGTH} bytes")));
        }
        self.token.with(|connection| {
            if let Some(object) = connection.known.get(&root) {
                match object::derive(&connection.session, *object, label, context) {
                    // Another program erased it, and perhaps put it there again.
                    Err(failure) if failure.is_object_gone() => {}
                    derived => return derived,
                }
            }
            let object = held(&connection.session, root)?.ok_or(ElementError::NoSuchRoot)?;
            connection.known.insert(root, object);
            object::derive(&connection.session, object, label, context)
        })
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        self.token.with(|connection| object::random(&connection.session, out))
    }
}

impl ProvisionableElement for Pkcs11Element {
    fn description(&self) -> Description {
        self.description.clone()
    }

    /// Makes a fresh transport key on the token, in place of any that is there, and gives its public part. It stays
    /// there, over restarts too, until a root is installed or another is made.
    fn prepare(&mut self) -> Result<Vec<u8>, ElementError> {
        self.token.with(|connection| {
            let passing = connection.passing()?;
            Ok(transport::make(&connection.session, &passing, connection.largest_rsa)?.emit())
        })
    }

    fn make_device_key(&mut self) -> Result<(), ElementError> {
        self.token.with(|connection| object::make_device_key(&connection.session))
    }

    /// Unwraps a root on the token and destroys the transport key, whatever came of it. `wrapped` is what [`wrap`]
    /// made from the latest [`ProvisionableElement::prepare`].
    fn install(&mut self, root: Root, wrapped: &[u8]) -> Result<(), ElementError> {
        let mut is_installed = false;
        self.token.with(|connection| {
            connection.known.remove(&root);
            // The session may get lost between the two, and the step be done again.
            let installed = if is_installed { Ok(()) } else { install(connection, root, wrapped) };
            if installed.as_ref().is_err_and(Failure::is_session_lost) {
                return installed;
            }
            is_installed = installed.is_ok();
            let destroyed = transport::destroy_all(&connection.session);
            installed.and(destroyed)
        })
    }

    fn erase(&mut self, root: Root) -> Result<(), ElementError> {
        self.token.with(|connection| {
            connection.known.remove(&root);
            let found = object::find(&connection.session, Name::of(root))?;
            object::destroy(&connection.session, &found)
        })
    }

    fn roots(&mut self) -> Result<Vec<Root>, ElementError> {
        let roots = self.token.with(|connection| object::roots(&connection.session))?;
        Ok(BTreeSet::from_iter(roots).into_iter().collect())
    }

    fn counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        None
    }
}

impl fmt::Debug for Pkcs11Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Element")
            .field("spec", &format_args!("{}", self.token.spec()))
            .field("serial", &self.description.serial)
            .finish_non_exhaustive()
    }
}

/// The object that is this root.
///
/// There can be several only if the token lost power and made one twice. They are the same then; where they are not,
/// nobody can tell which is right.
fn held(session: &Session, root: Root) -> Result<Option<ObjectHandle>, Failure> {
    let found = object::find(session, Name::of(root))?;
    if let [object] = found[..] {
        return Ok(object::is_whole(session, object)?.then_some(object));
    }
    let mut first: Option<(ObjectHandle, Secret<32>)> = None;
    for object in found {
        match (&first, object::fingerprint(session, object)?) {
            (_, None) => {}
            (None, Some(print)) => first = Some((object, print)),
            (Some((_, known)), Some(print)) if known.equals(print.expose()) => {}
            (Some(_), Some(_)) => {
                return Err(ElementError::Damaged(
                    "the token holds two different roots under one name; have the node provisioned again"
                        .into(),
                )
                .into());
            }
        }
    }
    Ok(first.map(|(object, _)| object))
}

fn install(connection: &Connection, root: Root, wrapped: &[u8]) -> Result<(), Failure> {
    let session = &connection.session;
    let name = Name::of(root);
    if name == Name::Device {
        return Err(Failure::refused("the device key is made inside the element, never installed"));
    }
    let wrapped = &Wrapped::parse(wrapped)
        .map_err(|_| Failure::refused("what is to be installed is no root wrapped for a token"))?;
    if wrapped.name != name.in_wrapped() {
        return Err(Failure::refused("the root was wrapped to be installed under another name"));
    }
    let Some(private) = transport::find(session, &wrapped.transport)? else {
        return Err(Failure::refused(
            "the root was wrapped for a transport key that the token no longer has; prepare and wrap again",
        ));
    };
    let mut whole = Vec::new();
    for object in object::find(session, name)? {
        match object::fingerprint(session, object)? {
            Some(print) => whole.push((object, print)),
            // The power failed before it had a value.
            None => object::destroy(session, &[object])?,
        }
    }
    let passing = connection.passing()?;
    let (unwrapped, freeze) = transport::unwrap_passing(&passing, private, wrapped)?;
    if whole.is_empty() {
        let object = transport::unwrap(session, private, wrapped, name, freeze)?;
        let checked = object::check_closed(session, object);
        if checked.is_err() {
            object::destroy(session, &[object])?;
        }
        return checked;
    }
    let print = object::fingerprint(&passing, unwrapped)?;
    let is_same = |held: &Secret<32>| print.as_ref().is_some_and(|print| print.equals(held.expose()));
    let Some(keep) = whole.iter().position(|(_, held)| is_same(held)) else {
        return Err(Failure::refused("it holds another root under this relationship and version"));
    };
    // Of several the module's word decides which is right.
    let (keep, _) = whole.swap_remove(keep);
    object::check_closed(session, keep)?;
    let others: Vec<_> = whole.into_iter().map(|(object, _)| object).collect();
    object::destroy(session, &others)
}
