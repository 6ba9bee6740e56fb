//! The libraries that speak to tokens, each loaded once for the whole process, and the tokens that they have.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use akm_core::element::{Description, ElementError, Protection};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::slot::{Slot, TokenInfo};

use super::failure::Doing;
use super::spec::{Choice, Pkcs11Spec, encode, encode_path};

/// A library stays loaded and initialised until the process ends: `C_Initialize` is for all of it.
static LOADED: Mutex<Option<HashMap<PathBuf, Pkcs11>>> = Mutex::new(None);

/// Where p11-kit keeps the names of the libraries that are installed.
const P11_KIT_MODULES: &str = "/usr/share/p11-kit/modules";

/// Where a library is when its name there has no directory: below `/usr/lib`, or below a directory of it.
const LIBRARIES: &str = "/usr/lib";

/// Where SoftHSM is on Debian.
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Makers of tokens that are programs, as they name themselves.
const SOFTWARE_MAKERS: [&str; 4] = ["SoftHSM project", "Mozilla Foundation", "Gnome Keyring", "Kryoptic"];

/// What a token must do, and by what an operator finds it in its data sheet.
const NEEDED: [(MechanismType, &str); 4] = [
    (MechanismType::SHA256_HMAC, "CKM_SHA256_HMAC"),
    (MechanismType::GENERIC_SECRET_KEY_GEN, "CKM_GENERIC_SECRET_KEY_GEN"),
    (MechanismType::RSA_PKCS_KEY_PAIR_GEN, "CKM_RSA_PKCS_KEY_PAIR_GEN"),
    (MechanismType::RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP with unwrap"),
];

/// A token that a library has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedToken {
    /// The spec of an element that is this token. In the place of the PIN file, which the operator has to name, stands
    /// `/PIN/FILE`.
    pub spec: String,
    /// Its label.
    pub label: String,
    /// What it says of itself.
    pub description: Description,
    /// Why it cannot be an element, where that shows without its PIN.
    pub obstacle: Option<String>,
}

/// The tokens that the library at this path has, fit or not. Needs no PIN and changes nothing.
pub fn list(module_path: &Path) -> Result<Vec<ListedToken>, ElementError> {
    let library = load(module_path)?;
    let mut listed = Vec::new();
    for (slot, token) in tokens(&library, module_path)? {
        listed.push(ListedToken {
            spec: format!(
                "pkcs11:token={};serial={}?module-path={}&pin-source=file:/PIN/FILE",
                encode(token.label()),
                encode(token.serial_number()),
                encode_path(&module_path.to_string_lossy())
            ),
            label: token.label().to_owned(),
            description: description(&library, slot, &token),
            obstacle: obstacle(&library, slot, &token)?,
        });
    }
    Ok(listed)
}

/// The PKCS#11 libraries that are installed on this machine, as far as p11-kit knows, and SoftHSM's.
pub fn modules() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(P11_KIT_MODULES)
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| {
            let named = text.lines().find_map(|line| line.trim().strip_prefix("module:"))?;
            find_library(Path::new(named.trim()))
        })
        .chain(Some(PathBuf::from(SOFTHSM)))
        .filter(|path| path.exists())
        .collect();
    // Two names of one library would list each token twice.
    found.sort_by_cached_key(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
    found.dedup_by_key(|path| fs::canonicalize(&path).unwrap_or_else(|_| path.clone()));
    found
}

fn find_library(named: &Path) -> Option<PathBuf> {
    if named.is_absolute() {
        return Some(named.to_path_buf());
    }
    let below = fs::read_dir(LIBRARIES).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    Some(PathBuf::from(LIBRARIES))
        .into_iter()
        .chain(below)
        .map(|directory| directory.join("pkcs11").join(named))
        .find(|path| path.exists())
}

/// Loads a library and initialises it, once in the life of this process.
pub(super) fn load(path: &Path) -> Result<Pkcs11, ElementError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_with(HashMap::new);
    if let Some(library) = loaded.get(path) {
        return Ok(library.clone());
    }
    let shown = path.display();
    if !path.exists() {
        return Err(ElementError::Unavailable(format!(
            "there is no {shown}: install the library that came with the token, or name it with module-path="
        )));
    }
    let library = Pkcs11::new(path).map_err(|error| {
        ElementError::Unavailable(format!(
            "{shown} is no PKCS#11 library that this program can load: {error}"
        ))
    })?;
    match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => {
            return Err(ElementError::Unavailable(format!(
                "{shown} does not start ({}): look at its own configuration",
                brief(&error)
            )));
        }
    }
    loaded.insert(path.to_path_buf(), library.clone());
    Ok(library)
}

/// The one token that a spec means.
pub(super) fn find(library: &Pkcs11, spec: &Pkcs11Spec) -> Result<(Slot, TokenInfo), ElementError> {
    let path = spec.module_path();
    let (mut fits, others): (Vec<_>, Vec<_>) =
        tokens(library, path)?.into_iter().partition(|(_, token)| is_meant(&spec.choice, token));
    let shown = path.display();
    match fits.len() {
        1 => Ok(fits.remove(0)),
        0 if others.is_empty() => Err(ElementError::Unavailable(format!(
            "no such token: {shown} has none at all; plug in the one called {:?}",
            spec.token()
        ))),
        0 => Err(ElementError::Unavailable(format!(
            "no such token: {shown} has {}, none that is {}; plug it in, or name one that is there",
            others.iter().map(|(_, token)| named(token)).collect::<Vec<_>>().join(", "),
            wanted(&spec.choice)
        ))),
        _ => Err(ElementError::Refused(format!(
            "several tokens fit: {}; say which with ;serial=",
            fits.iter().map(|(_, token)| named(token)).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// What keeps a token from being an element, as far as it shows without its PIN.
pub(super) fn obstacle(
    library: &Pkcs11,
    slot: Slot,
    token: &TokenInfo,
) -> Result<Option<String>, ElementError> {
    let offered = library.get_mechanism_list(slot).doing("asking the token what it can do")?;
    let mut missing = Vec::new();
    for (mechanism, name) in NEEDED {
        let does_it = offered.contains(&mechanism)
            && (mechanism != MechanismType::RSA_PKCS_OAEP
                || library.get_mechanism_info(slot, mechanism).is_ok_and(|offer| offer.unwrap()));
        if !does_it {
            missing.push(name);
        }
    }
    Ok(if !missing.is_empty() {
        Some(format!(
            "token {:?} lacks what an element needs: {}; a Swissbit element or the like, whose driver offers RSA \
             and ECDSA only, is used with the AKM applet: --element card:READER",
            token.label(),
            missing.join(", ")
        ))
    } else if token.serial_number().is_empty() {
        Some(format!("token {:?} has no serial number, by which a module would know it again", token.label()))
    } else if !token.user_pin_initialized() {
        Some(format!("token {:?} has no user PIN: set one with its own program", token.label()))
    } else {
        None
    })
}

/// What a token says of itself.
pub(super) fn description(library: &Pkcs11, slot: Slot, token: &TokenInfo) -> Description {
    let plain = |text: &str| text.chars().filter(|character| !character.is_control()).collect::<String>();
    let manufacturer = match plain(token.manufacturer_id()) {
        nameless if nameless.is_empty() => "unknown".to_owned(),
        named => named,
    };
    Description {
        kind: "pkcs11".into(),
        manufacturer,
        serial: plain(token.serial_number()),
        firmware: format!("{} {}", plain(token.model()), token.firmware_version()).trim_start().to_owned(),
        protection: protection(library, slot, token),
        sealed: true,
        counter: false,
    }
}

/// Hardware only where the library says so and the maker is not known for a program: a claim too small costs a
/// warning, one too great costs trust.
fn protection(library: &Pkcs11, slot: Slot, token: &TokenInfo) -> Protection {
    let is_program = SOFTWARE_MAKERS.iter().any(|maker| token.manufacturer_id().starts_with(maker));
    let is_device = library.get_slot_info(slot).is_ok_and(|slot| slot.hardware_slot());
    if is_device && !is_program { Protection::Hardware } else { Protection::Software }
}

/// What the library calls an error, without the paragraph that explains it.
pub(super) fn brief(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, _) => format!("{code:?}"),
        other => other.to_string(),
    }
}

fn tokens(library: &Pkcs11, path: &Path) -> Result<Vec<(Slot, TokenInfo)>, ElementError> {
    let slots = library.get_slots_with_token().map_err(|error| {
        ElementError::Unavailable(format!("{} cannot list its tokens ({})", path.display(), brief(&error)))
    })?;
    // A token that is taken out or does not answer meanwhile is as good as not there.
    let mut tokens: Vec<_> = slots
        .into_iter()
        .filter_map(|slot| Some((slot, library.get_token_info(slot).ok()?)))
        .filter(|(_, token)| token.token_initialized())
        .collect();
    tokens.sort_by(|(_, one), (_, other)| {
        (one.label(), one.serial_number()).cmp(&(other.label(), other.serial_number()))
    });
    Ok(tokens)
}

fn is_meant(choice: &Choice, token: &TokenInfo) -> bool {
    let fits = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    choice.token == token.label()
        && fits(&choice.serial, token.serial_number())
        && fits(&choice.manufacturer, token.manufacturer_id())
        && fits(&choice.model, token.model())
}

fn named(token: &TokenInfo) -> String {
    format!("{:?} (serial {})", token.label(), token.serial_number())
}

fn wanted(choice: &Choice) -> String {
    let mut text = format!("{:?}", choice.token);
    for (name, value) in
        [("serial", &choice.serial), ("manufacturer", &choice.manufacturer), ("model", &choice.model)]
    {
        if let Some(value) = value {
            text.push_str(&format!(" with {name} {value:?}"));
        }
    }
    text
}
