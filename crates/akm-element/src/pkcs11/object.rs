//! The objects on a token: how they are named, what they may be used for, and that the token keeps to it.

use akm_core::element::{ElementError, Label, ROOT_NAME_LENGTH, Root};
use akm_core::keys::element_function;
use akm_core::secret::Secret;
use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState};
use zeroize::Zeroizing;

use super::failure::{Doing, Failure};

/// Label of the roots of relationships.
pub(super) const ROOT_LABEL: &[u8] = b"akm root";
/// Label of the device key.
pub(super) const DEVICE_LABEL: &[u8] = b"akm device";
/// Label of transport keys.
pub(super) const TRANSPORT_LABEL: &[u8] = b"akm transport";

/// Length of a root in bytes.
const ROOT_LENGTH: usize = 32;

/// What roots are compared by: their values over this, which never leave this module.
const COMPARED: (Label, &[u8]) = (Label::Receipt, b"akm1 pkcs11: is it the same");

/// A root's `CKA_ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The name of a root.
    Relationship([u8; Self::LENGTH]),
    Device,
}

impl Name {
    /// Of a root's name.
    pub(super) const LENGTH: usize = ROOT_NAME_LENGTH;

    pub(super) fn of(root: Root) -> Self {
        match root {
            Root::Device => Self::Device,
            Root::Relationship { .. } => Self::Relationship(root.name()),
        }
    }

    fn label(&self) -> &'static [u8] {
        match self {
            Self::Relationship(_) => ROOT_LABEL,
            Self::Device => DEVICE_LABEL,
        }
    }

    /// As it stands in a wrapped root. No device key is ever wrapped: for it there is what names no relationship.
    pub(super) fn in_wrapped(&self) -> [u8; Self::LENGTH] {
        match self {
            Self::Relationship(name) => *name,
            Self::Device => [0; Self::LENGTH],
        }
    }

    fn id(&self) -> &[u8] {
        match self {
            Self::Relationship(name) => name,
            Self::Device => DEVICE_LABEL,
        }
    }

    /// What makes an object the root of this name.
    pub(super) fn attributes(&self) -> [Attribute; 3] {
        [Attribute::Token(true), Attribute::Label(self.label().to_vec()), Attribute::Id(self.id().to_vec())]
    }
}

/// What a root is and may be used for: the element function and nothing else. The same stands in the unwrap
/// template of a transport key.
pub(super) fn closed() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Verify(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]
}

/// How far a token lets an object be frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freeze {
    /// No attribute can be changed, and no copy be made.
    Whole,
    /// No attribute can be changed. Tokens from before version 2.40 do not know the other.
    Attributes,
    Nothing,
}

impl Freeze {
    pub(super) const ALL: [Self; 3] = [Self::Whole, Self::Attributes, Self::Nothing];

    /// To be put last: SoftHSM takes an attribute after the other, and none after `CKA_MODIFIABLE`.
    pub(super) fn attributes(self) -> Vec<Attribute> {
        match self {
            Self::Whole => vec![Attribute::Copyable(false), Attribute::Modifiable(false)],
            Self::Attributes => vec![Attribute::Modifiable(false)],
            Self::Nothing => Vec::new(),
        }
    }
}

/// Makes something as far frozen as the token takes it. What fails on the way may leave half an object in the
/// session (SoftHSM does), so this is for sessions that are closed soon, or for what a token makes itself.
pub(super) fn as_frozen_as_possible<T>(
    mut make: impl FnMut(Freeze) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut first = None;
    for freeze in Freeze::ALL {
        match make(freeze) {
            Err(failure) if failure.is_about_attributes() => {
                first.get_or_insert(failure);
            }
            made => return made,
        }
    }
    Err(first.expect("all of them failed"))
}

/// Refuses an object that the token has not made as closed as it was told.
pub(super) fn check_closed(session: &Session, object: ObjectHandle) -> Result<(), Failure> {
    let asked = [
        AttributeType::Class,
        AttributeType::KeyType,
        AttributeType::Private,
        AttributeType::Sensitive,
        AttributeType::Extractable,
        AttributeType::Sign,
        AttributeType::Encrypt,
        AttributeType::Decrypt,
        AttributeType::Wrap,
        AttributeType::Unwrap,
        AttributeType::Derive,
        AttributeType::ValueLen,
    ];
    let found = session.get_attributes(object, &asked).doing("reading back the attributes of a root")?;
    let wrong = found.iter().find(|attribute| match attribute {
        // SoftHSM says 0 for what it has unwrapped.
        Attribute::ValueLen(length) => **length != 0 && **length != ROOT_LENGTH as u64,
        attribute => !closed().contains(attribute),
    });
    let without = [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Private(true)]
        .into_iter()
        .find(|must| !found.contains(must));
    match wrong.or(without.as_ref()) {
        None => Ok(()),
        Some(attribute) => Err(Failure::refused(format!(
            "the token does not keep a root as it was told to ({}): it is not fit to be an element",
            attribute.attribute_type()
        ))),
    }
}

/// The objects of this name that are keys. More than one only if the power failed in the midst of a repetition.
pub(super) fn find(session: &Session, name: Name) -> Result<Vec<ObjectHandle>, Failure> {
    let mut template = vec![Attribute::Class(ObjectClass::SECRET_KEY)];
    template.extend(name.attributes());
    search(session, &template, "looking for a root")
}

/// All objects with this label, of whatever class.
pub(super) fn find_labelled(session: &Session, label: &[u8]) -> Result<Vec<ObjectHandle>, Failure> {
    let template = [Attribute::Token(true), Attribute::Label(label.to_vec())];
    search(session, &template, "looking for what is on the token")
}

/// The objects that fit. To a session that somebody logged out a token shows none, and says nothing of it: then it
/// is as if the session were lost.
pub(super) fn search(
    session: &Session,
    template: &[Attribute],
    doing: &'static str,
) -> Result<Vec<ObjectHandle>, Failure> {
    let found = session.find_objects(template).doing(doing)?;
    if found.is_empty() {
        let state = session.get_session_info().doing(doing)?.session_state();
        if !matches!(state, SessionState::RwUser | SessionState::RoUser) {
            let logged_out = Error::Pkcs11(RvError::UserNotLoggedIn, Function::FindObjects);
            return Err(Failure::Token { doing, error: logged_out });
        }
    }
    Ok(found)
}

/// Destroys these. One that is gone already is no failure.
pub(super) fn destroy(session: &Session, objects: &[ObjectHandle]) -> Result<(), Failure> {
    for object in objects {
        match session.destroy_object(*object).doing("erasing from the token") {
            Err(failure) if !failure.is_object_gone() => return Err(failure),
            _ => {}
        }
    }
    Ok(())
}

/// The roots on the token, in any order. What has no value is not listed: the power failed before it had one.
pub(super) fn roots(session: &Session) -> Result<Vec<Root>, Failure> {
    let mut roots = Vec::new();
    for (label, device) in [(ROOT_LABEL, false), (DEVICE_LABEL, true)] {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(true),
            Attribute::Label(label.to_vec()),
        ];
        for object in search(session, &template, "listing the roots")? {
            let attributes =
                session.get_attributes(object, &[AttributeType::Id]).doing("listing the roots")?;
            if !is_whole(session, object)? {
                continue;
            }
            let id = attributes.iter().find_map(|attribute| match attribute {
                Attribute::Id(id) => Some(&id[..]),
                _ => None,
            });
            let root = match (device, id) {
                (true, Some(DEVICE_LABEL)) => Some(Root::Device),
                (false, Some(id)) => Root::of_name(id),
                _ => None,
            };
            roots.push(root.ok_or_else(|| {
                let label = String::from_utf8_lossy(label);
                ElementError::Damaged(format!(
                    "an object labelled {label:?} on the token is not AKM's: remove it (pkcs11-tool --delete-object)"
                ))
            })?);
        }
    }
    Ok(roots)
}

/// The element function under a root on the token.
pub(super) fn derive(
    session: &Session,
    root: ObjectHandle,
    label: Label,
    context: &[u8],
) -> Result<Secret<32>, Failure> {
    let mut input = Vec::with_capacity(4 + 32 + 1 + 32 + 4);
    input.extend_from_slice(&1u32.to_be_bytes());
    input.extend_from_slice(label.as_bytes());
    input.push(0);
    input.extend_from_slice(context);
    input.extend_from_slice(&8192u32.to_be_bytes());
    let made = Zeroizing::new(session.sign(&Mechanism::Sha256Hmac, root, &input).doing("using a root")?);
    Secret::copy_from(&made).ok_or_else(|| {
        Failure::refused("the token's HMAC-SHA-256 has not 32 bytes: it is not fit to be an element")
    })
}

/// What tells whether two roots are the same. `None` for an object without a value, which a token may leave when
/// the power fails while it makes one.
pub(super) fn fingerprint(session: &Session, root: ObjectHandle) -> Result<Option<Secret<32>>, Failure> {
    let (label, context) = COMPARED;
    let made = match derive(session, root, label, context) {
        // What SoftHSM answers for a key of no bytes.
        Err(failure) if failure.code() == Some(RvError::KeySizeRange) => return Ok(None),
        made => made?,
    };
    // HMAC fills a key up with zeros: none at all is the same as 32 of them.
    Ok((!made.equals(fingerprint_of(&[0; 32]).expose())).then_some(made))
}

/// Whether an object has a value. It is tried unless the token tells its length.
pub(super) fn is_whole(session: &Session, root: ObjectHandle) -> Result<bool, Failure> {
    let length = session.get_attributes(root, &[AttributeType::ValueLen]).doing("looking at a root")?;
    match length.first() {
        Some(Attribute::ValueLen(length)) if **length != 0 => Ok(true),
        _ => Ok(fingerprint(session, root)?.is_some()),
    }
}

/// The fingerprint of a root that is known.
pub(super) fn fingerprint_of(root: &[u8; 32]) -> Secret<32> {
    let (label, context) = COMPARED;
    element_function(root, label.as_bytes(), context)
}

/// Makes the device key, unless there is one.
pub(super) fn make_device_key(session: &Session) -> Result<(), Failure> {
    let mut whole = 0;
    for object in find(session, Name::Device)? {
        if fingerprint(session, object)?.is_some() {
            whole += 1;
        } else {
            destroy(session, &[object])?;
        }
    }
    if whole > 0 {
        return Ok(());
    }
    let object = as_frozen_as_possible(|freeze| {
        let mut template = closed();
        template.push(Attribute::ValueLen(ROOT_LENGTH.try_into().expect("32 is a length")));
        template.extend(Name::Device.attributes());
        template.extend(freeze.attributes());
        session.generate_key(&Mechanism::GenericSecretKeyGen, &template).doing("making the device key")
    })?;
    let checked = check_closed(session, object).and_then(|()| check_never_out(session, object));
    if checked.is_err() {
        destroy(session, &[object])?;
    }
    checked
}

/// A key that was made on the token was never anywhere else.
fn check_never_out(session: &Session, object: ObjectHandle) -> Result<(), Failure> {
    let asked = [AttributeType::AlwaysSensitive, AttributeType::NeverExtractable, AttributeType::Local];
    let found =
        session.get_attributes(object, &asked).doing("reading back the attributes of the device key")?;
    let all = [Attribute::AlwaysSensitive(true), Attribute::NeverExtractable(true), Attribute::Local(true)];
    if found.iter().all(|attribute| all.contains(attribute)) {
        return Ok(());
    }
    Err(Failure::refused(
        "the token does not vouch that its device key was never outside: it is not fit to be an element",
    ))
}

/// Random bytes of the token's own generator.
pub(super) fn random(session: &Session, out: &mut [u8]) -> Result<(), Failure> {
    // Some tokens give no more at a time.
    for part in out.chunks_mut(256) {
        session.generate_random_slice(part).doing("drawing random bytes")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use akm_core::element::RootCheck;
    use akm_core::id::RelationshipId;

    use super::*;

    #[test]
    fn a_name_is_read_back_as_it_was_written_and_nothing_else_is() {
        let root = Root::Relationship {
            id: RelationshipId::from_random([3; 16]),
            version: 0x0102_0304,
            check: RootCheck([0; 4]),
        };
        let Name::Relationship(name) = Name::of(root) else { panic!("a relationship") };
        assert_eq!(Root::of_name(&name), Some(root));
        for length in 0..Name::LENGTH {
            assert_eq!(Root::of_name(&name[..length]), None);
        }
        assert_eq!(Root::of_name(&[&name[..], &[0]].concat()), None);
        assert_eq!(Root::of_name(&[0; Name::LENGTH]), None);
        assert_eq!(Name::of(Root::Device), Name::Device);
    }
}
