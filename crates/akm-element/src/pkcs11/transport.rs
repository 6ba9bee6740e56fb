//! The transport key: a fresh RSA key pair under which one root comes in.
//!
//! Three things close what would be open. Its private part unwraps and does nothing else, so that nobody decrypts
//! the wrapped root with it. Its unwrap template says what an unwrapped key must be, so that nobody unwraps the
//! root as one that can be read. And it is destroyed after use, so that whoever kept the wrapped root has nothing
//! to unwrap it with. Each key is tried before it is handed out: a token that does not keep to the template is
//! refused.

use std::ffi::{c_ulong, c_void};

use akm_core::secret::Secret;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::failure::{Doing, Failure};
use super::material::{Material, Padding, PublicPart, TRANSPORT_ID, Wrapped};
use super::object::{self, Freeze, Name, TRANSPORT_LABEL, as_frozen_as_possible};

/// `CKA_UNWRAP_TEMPLATE` (PKCS#11, section 4.9), which the library below has no name for.
const UNWRAP_TEMPLATE: c_ulong = 0x4000_0212;

/// Bits of the modulus, best first.
const SIZES: [usize; 2] = [3072, 2048];

const EXPONENT: [u8; 3] = [1, 0, 1];

/// Makes a transport key in place of any that is there, tries it, and says what wrapping for it needs.
///
/// `passing` is a session of its own, for all that shall go with it.
pub(super) fn make(session: &Session, passing: &Session, largest: usize) -> Result<Material, Failure> {
    destroy_all(session)?;
    let mut transport = [0; TRANSPORT_ID];
    object::random(session, &mut transport)?;
    let made = as_frozen_as_possible(|unwrapped| {
        // One that another template was tried with.
        destroy_all(session)?;
        let (public, private) = generate(passing, &transport, largest, unwrapped)?;
        let public = public_part(passing, public)?;
        check_private_part(passing, private)?;
        Ok(Material { transport, padding: attempt(passing, private, &public)?, public })
    });
    if made.is_err() {
        // What cannot be erased here is erased by the next that is made.
        let _ = destroy_all(session);
    }
    made
}

/// Destroys all transport keys.
pub(super) fn destroy_all(session: &Session) -> Result<(), Failure> {
    object::destroy(session, &object::find_labelled(session, TRANSPORT_LABEL)?)
}

/// The private part of the transport key that a root was wrapped for.
pub(super) fn find(
    session: &Session,
    transport: &[u8; TRANSPORT_ID],
) -> Result<Option<ObjectHandle>, Failure> {
    let template = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Token(true),
        Attribute::Label(TRANSPORT_LABEL.to_vec()),
        Attribute::Id(transport.to_vec()),
    ];
    Ok(object::search(session, &template, "looking for the transport key")?.first().copied())
}

/// Unwraps a root into a session that it goes with, and says how far it could be frozen.
pub(super) fn unwrap_passing(
    passing: &Session,
    private: ObjectHandle,
    wrapped: &Wrapped,
) -> Result<(ObjectHandle, Freeze), Failure> {
    let unwrapped = as_frozen_as_possible(|freeze| {
        let template = [object::closed(), freeze.attributes()].concat();
        Ok((unwrap_as(passing, private, wrapped.padding, &wrapped.ciphertext, &template)?, freeze))
    });
    match unwrapped {
        Err(failure) if failure.is_about_wrapped() => Err(Failure::refused(
            "the wrapped root does not unwrap: it is damaged, or for another token; prepare and wrap again",
        )),
        unwrapped => unwrapped,
    }
}

/// Unwraps a root onto the token, as far frozen as was seen to be possible.
pub(super) fn unwrap(
    session: &Session,
    private: ObjectHandle,
    wrapped: &Wrapped,
    name: Name,
    freeze: Freeze,
) -> Result<ObjectHandle, Failure> {
    let template = [object::closed(), name.attributes().to_vec(), freeze.attributes()].concat();
    unwrap_as(session, private, wrapped.padding, &wrapped.ciphertext, &template)
}

fn unwrap_as(
    session: &Session,
    private: ObjectHandle,
    padding: Padding,
    ciphertext: &[u8],
    template: &[Attribute],
) -> Result<ObjectHandle, Failure> {
    session.unwrap_key(&oaep(padding), private, ciphertext, template).doing("unwrapping a root")
}

fn oaep(padding: Padding) -> Mechanism<'static> {
    let (hash, mask) = match padding {
        Padding::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
        Padding::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty()))
}

fn generate(
    session: &Session,
    transport: &[u8; TRANSPORT_ID],
    largest: usize,
    unwrapped: Freeze,
) -> Result<(ObjectHandle, ObjectHandle), Failure> {
    let mut last = None;
    for bits in SIZES.into_iter().filter(|bits| *bits <= largest) {
        let made =
            as_frozen_as_possible(|freeze| generate_of_size(session, transport, bits, freeze, unwrapped));
        match made {
            // Some tokens say so only when it comes to it.
            Err(failure) if failure.is_about_attributes() || failure.is_about_size() => last = Some(failure),
            made => return made,
        }
    }
    Err(last.unwrap_or_else(|| {
        Failure::refused(format!(
            "the token makes RSA keys of {largest} bits at most; an element needs 2048 at least"
        ))
    }))
}

fn generate_of_size(
    session: &Session,
    transport: &[u8; TRANSPORT_ID],
    bits: usize,
    freeze: Freeze,
    unwrapped: Freeze,
) -> Result<(ObjectHandle, ObjectHandle), Failure> {
    // It is read at once and not needed later: it goes with the session.
    let public = [
        Attribute::Token(false),
        Attribute::Label(TRANSPORT_LABEL.to_vec()),
        Attribute::Id(transport.to_vec()),
        Attribute::ModulusBits(bits.try_into().expect("a size is a number")),
        Attribute::PublicExponent(EXPONENT.to_vec()),
        Attribute::Wrap(true),
        Attribute::Encrypt(false),
        Attribute::Verify(false),
    ];
    let mut private = vec![
        Attribute::Token(true),
        Attribute::Label(TRANSPORT_LABEL.to_vec()),
        Attribute::Id(transport.to_vec()),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
    ];
    // A raw RSA signature is a decryption under another name.
    private.extend(nothing_else());
    let unwrapped = [object::closed(), unwrapped.attributes()].concat();
    with_unwrap_template(&unwrapped, |template| {
        private.push(template);
        private.extend(freeze.attributes());
        session
            .generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)
            .doing("making a transport key")
    })?
}

fn nothing_else() -> [Attribute; 4] {
    [
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::SignRecover(false),
        Attribute::Derive(false),
    ]
}

/// Gives a template as the one attribute `CKA_UNWRAP_TEMPLATE`, while `use_it` runs.
///
/// Its value is an array of `CK_ATTRIBUTE`: type, pointer to the value, length. The pointers are to `values`, which
/// live until `use_it` has returned; the attribute itself must not outlive it, which is why nobody else gets one.
fn with_unwrap_template<T>(
    attributes: &[Attribute],
    use_it: impl FnOnce(Attribute) -> T,
) -> Result<T, Failure> {
    let values: Vec<(c_ulong, Box<[u8]>)> = attributes.iter().map(encoded).collect();
    let mut array = Vec::with_capacity(values.len() * (2 * size_of::<c_ulong>() + size_of::<*mut c_void>()));
    for (kind, value) in &values {
        array.extend_from_slice(&kind.to_ne_bytes());
        array.extend_from_slice(&value.as_ptr().expose_provenance().to_ne_bytes());
        array.extend_from_slice(&(value.len() as c_ulong).to_ne_bytes());
    }
    // Every allocator aligns what is as long as this; the token's library would read it wrongly otherwise.
    if !array.as_ptr().addr().is_multiple_of(align_of::<*mut c_void>()) {
        return Err(Failure::refused("this machine's memory is not aligned as the token's library needs it"));
    }
    Ok(use_it(Attribute::VendorDefined((AttributeType::VendorDefined(UNWRAP_TEMPLATE), array))))
}

/// An attribute of [`object::closed`] and [`Freeze`] as its type and value.
fn encoded(attribute: &Attribute) -> (c_ulong, Box<[u8]>) {
    let value: Box<[u8]> = match attribute {
        Attribute::Class(class) => Box::new((**class).to_ne_bytes()),
        Attribute::KeyType(kind) => Box::new((**kind).to_ne_bytes()),
        Attribute::Private(is)
        | Attribute::Sensitive(is)
        | Attribute::Extractable(is)
        | Attribute::Sign(is)
        | Attribute::Verify(is)
        | Attribute::Encrypt(is)
        | Attribute::Decrypt(is)
        | Attribute::Wrap(is)
        | Attribute::Unwrap(is)
        | Attribute::Derive(is)
        | Attribute::Modifiable(is)
        | Attribute::Copyable(is) => Box::new([u8::from(*is)]),
        other => unreachable!("a root is not described by {}", other.attribute_type()),
    };
    (attribute.attribute_type().into(), value)
}

fn public_part(session: &Session, public: ObjectHandle) -> Result<PublicPart, Failure> {
    let asked = [AttributeType::Modulus, AttributeType::PublicExponent];
    let (mut modulus, mut exponent) = (Vec::new(), Vec::new());
    for attribute in session.get_attributes(public, &asked).doing("reading the transport key")? {
        match attribute {
            Attribute::Modulus(bytes) => modulus = without_leading_zeros(&bytes),
            Attribute::PublicExponent(bytes) => exponent = without_leading_zeros(&bytes),
            _ => {}
        }
    }
    Ok(PublicPart { modulus, exponent })
}

fn without_leading_zeros(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
}

fn check_private_part(session: &Session, private: ObjectHandle) -> Result<(), Failure> {
    let mut must = vec![Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)];
    let asked: Vec<AttributeType> =
        must.iter().chain(&nothing_else()).map(Attribute::attribute_type).collect();
    let found = session.get_attributes(private, &asked).doing("reading back the transport key")?;
    let has_all = must.iter().all(|attribute| found.contains(attribute));
    must.extend(nothing_else());
    if has_all && found.iter().all(|attribute| must.contains(attribute)) {
        return Ok(());
    }
    Err(Failure::refused(
        "the token does not keep a transport key as it was told to: it is not fit to be an element",
    ))
}

/// Tries the key on a value of no use: the padding that it can, that it unwraps to the right root, and that it
/// unwraps to nothing that can be read.
fn attempt(passing: &Session, private: ObjectHandle, public: &PublicPart) -> Result<Padding, Failure> {
    let trial = Secret::try_fill(|out| object::random(passing, out))?;
    let mut last = None;
    for padding in Padding::ALL {
        let ciphertext = public.encrypt(padding, &trial).ok_or_else(|| {
            Failure::refused(
                "the token made a transport key that nobody should use: it is not fit to be an element",
            )
        })?;
        let wrapped = Wrapped { transport: [0; TRANSPORT_ID], padding, name: [0; Name::LENGTH], ciphertext };
        match unwrap_passing(passing, private, &wrapped) {
            Ok((unwrapped, _)) => {
                check_same(passing, unwrapped, &trial)?;
                check_template(passing, private, &wrapped)?;
                return Ok(padding);
            }
            Err(failure) if failure.is_session_lost() => return Err(failure),
            Err(failure) => last = Some(failure),
        }
    }
    Err(last.unwrap_or_else(|| Failure::refused("the token unwraps nothing")))
}

fn check_same(session: &Session, unwrapped: ObjectHandle, trial: &Secret<32>) -> Result<(), Failure> {
    let made = object::fingerprint(session, unwrapped)?;
    if made.is_some_and(|made| made.equals(object::fingerprint_of(trial.expose()).expose())) {
        return Ok(());
    }
    Err(Failure::refused(
        "the token unwraps to another root than was wrapped: it is not fit to be an element",
    ))
}

/// Refuses a token that unwraps to what its transport key's template forbids.
fn check_template(passing: &Session, private: ObjectHandle, wrapped: &Wrapped) -> Result<(), Failure> {
    let but = |other: Attribute| {
        let mut template = object::closed();
        template.retain(|attribute| attribute.attribute_type() != other.attribute_type());
        template.push(other);
        template
    };
    let forbidden =
        [Attribute::Extractable(true), Attribute::Sensitive(false), Attribute::Derive(true)].map(but);
    for template in Freeze::ALL.into_iter().flat_map(|freeze| {
        forbidden.iter().map(move |forbidden| [&forbidden[..], &freeze.attributes()].concat())
    }) {
        match unwrap_as(passing, private, wrapped.padding, &wrapped.ciphertext, &template) {
            Err(failure) if failure.is_session_lost() => return Err(failure),
            Err(_) => {}
            // It may have put the right attributes in the place of these.
            Ok(unwrapped) => object::check_closed(passing, unwrapped).map_err(|_| {
                Failure::refused(
                    "the token does not keep to CKA_UNWRAP_TEMPLATE: whoever has its PIN could read a root; it is \
                     not fit to be an element",
                )
            })?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwrap_template_holds_every_attribute_of_a_root_as_the_library_reads_it() {
        let attributes = [object::closed(), Freeze::Whole.attributes()].concat();
        let size = 2 * size_of::<c_ulong>() + size_of::<*mut c_void>();
        with_unwrap_template(&attributes, |template| {
            let Attribute::VendorDefined((kind, array)) = template else { panic!("one attribute") };
            assert_eq!(c_ulong::from(kind), UNWRAP_TEMPLATE);
            assert_eq!(array.len(), attributes.len() * size);
            for (entry, attribute) in array.chunks(size).zip(&attributes) {
                let (kind, value) = encoded(attribute);
                assert_eq!(entry[..size_of::<c_ulong>()], kind.to_ne_bytes());
                assert_eq!(entry[size - size_of::<c_ulong>()..], (value.len() as c_ulong).to_ne_bytes());
            }
        })
        .unwrap();
    }
}
