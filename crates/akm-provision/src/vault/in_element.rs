//! A vault key that only a secure element can make: with the element unplugged, what is on the disk opens nothing.
//!
//! ```text
//!   vault key = F(device key of the element, "akm1 vault", salt)
//!   $AKM_HOME/vault.element    which element, its identity, the salt
//!   $AKM_HOME/element/         what the element keeps beside itself, where it does
//! ```

use std::path::Path;

use akm_core::element::{Description, ElementError, Label, ProvisionableElement, Root};
use akm_core::keys::CONTEXT_LENGTH;
use akm_core::secret::Secret;
use akm_disk::directory::make_directory;
use akm_disk::private::Links;
use akm_element::ElementSpec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::{
    ELEMENT_FILE, KEY_LENGTH, Vault, VaultError, fill_random, prepare_home, read_private, write_new,
};

/// What an element keeps beside itself.
const STATE_DIR: &str = "element";

/// The content of `vault.element`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ElementFile {
    version: u32,
    element: String,
    manufacturer: String,
    serial: String,
    salt: String,
}

impl ElementFile {
    const VERSION: u32 = 1;

    fn salt(&self) -> Option<[u8; CONTEXT_LENGTH]> {
        BASE64.decode(&self.salt).ok()?.try_into().ok()
    }
}

impl Vault {
    /// Makes a vault key that only this element can make again. The element must hold nothing of a node.
    ///
    /// Returns what the element says of itself too. Killed anywhere, the same call goes on.
    pub fn create_in_element(home: &Path, spec: &ElementSpec) -> Result<(Self, Description), VaultError> {
        prepare_home(home)?;
        let state = home.join(STATE_DIR);
        make_directory(&state, Links::Followed)?;
        let mut element = spec.create(&state).map_err(VaultError::Element)?;
        // One that was cut off here has a device key, and no root.
        if element.roots().map_err(VaultError::Element)?.iter().any(|root| *root != Root::Device) {
            return Err(VaultError::Element(ElementError::Refused(
                "it holds the relationships of a node: take another one for the vault".to_owned(),
            )));
        }
        element.make_device_key().map_err(VaultError::Element)?;
        let mut salt = [0; CONTEXT_LENGTH];
        fill_random(&mut salt)?;
        let key = derive(&mut *element, &salt)?;
        let description = element.description();
        let file = ElementFile {
            version: ElementFile::VERSION,
            element: spec.to_string(),
            manufacturer: description.manufacturer.clone(),
            serial: description.serial.clone(),
            salt: BASE64.encode(salt),
        };
        let text = serde_json::to_vec_pretty(&file).expect("numbers and text are always JSON");
        write_new(&home.join(ELEMENT_FILE), &text)?;
        Ok((Self::from_key(&key), description))
    }

    pub(super) fn open_in_element(home: &Path) -> Result<Self, VaultError> {
        let path = home.join(ELEMENT_FILE);
        let damaged = |why| VaultError::Damaged { path: path.clone(), why };
        let file: ElementFile = serde_json::from_slice(&read_private(&path)?)
            .map_err(|_| damaged("it is not a file of a vault in an element"))?;
        if file.version != ElementFile::VERSION {
            return Err(damaged("it was written by a later version of this program"));
        }
        let salt = file.salt().ok_or_else(|| damaged("its salt is not 32 bytes in Base64"))?;
        let spec: ElementSpec = file.element.parse().map_err(|_| damaged("it names no element"))?;
        let mut element = spec.open(&home.join(STATE_DIR)).map_err(VaultError::Element)?;
        let found = element.description();
        if (&found.manufacturer, &found.serial) != (&file.manufacturer, &file.serial) {
            return Err(VaultError::AnotherElement {
                expected: format!("{} {}", file.manufacturer, file.serial),
                found: format!("{} {}", found.manufacturer, found.serial),
            });
        }
        Ok(Self::from_key(&derive(&mut *element, &salt)?))
    }

    /// The identity of the element that makes the vault key of this module (protocol, section 2), if one does.
    pub fn element_identity(home: &Path) -> Option<Vec<u8>> {
        let bytes = read_private(&home.join(ELEMENT_FILE)).ok()?;
        let file: ElementFile = serde_json::from_slice(&bytes).ok()?;
        Some([file.manufacturer.as_bytes(), &[0], file.serial.as_bytes()].concat())
    }
}

fn derive(element: &mut dyn ProvisionableElement, salt: &[u8]) -> Result<Secret<KEY_LENGTH>, VaultError> {
    element.derive(Root::Device, Label::Vault, salt).map_err(|error| match error {
        ElementError::NoSuchRoot => VaultError::Element(ElementError::Damaged(
            "it does not hold the key of this vault any more: it was erased or reset".to_owned(),
        )),
        error => VaultError::Element(error),
    })
}
