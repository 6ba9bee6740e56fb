//! The records that are written once, and their bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use akm_core::cbor::{Malformed, read_array, read_bytes, read_map, write};
use akm_core::crypto::hash::sha256;
use akm_core::element::RootCheck;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::sds::{MEMBERS_MAX, SynchronizedDataSet, Tag};
use akm_core::seal::SEALED_KEYS_LENGTH;
use akm_disk::durable;
use akm_host::Installed;
use tracing::{error, warn};

use crate::error::{Damage, NodeError};

/// The format of the record that says who a node is.
const IDENTITY: u8 = 1;

/// The format of the record of what was installed. In revision 1 of the protocol it was 1.
const INSTALLED: u8 = 2;

/// Why a record is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRead {
    /// It is not what was written.
    Damaged,
    /// It is whole, and in a form that a later version of `akmd` wrote.
    LaterVersion,
    /// It is of a node that speaks revision 1 of the protocol.
    Revision1,
}

impl fmt::Display for NotRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "damaged",
            Self::LaterVersion => "of a later version of akmd",
            Self::Revision1 => {
                "of revision 1 of the protocol, which this akmd does not speak: provision the device again (akm \
                 provision TARGET --again)"
            }
        })
    }
}

/// Why a record was not read in which this format stands, if any does, and which should be in this one.
fn not_read(format: Option<u8>, own: u8) -> NotRead {
    match format {
        Some(format) if format > own => NotRead::LaterVersion,
        Some(format) if format < own => NotRead::Revision1,
        _ => NotRead::Damaged,
    }
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRecord {
    /// Its AKM ID.
    pub node: AkmId,
    /// Its provisioning relationship.
    pub relationship: RelationshipId,
    /// The module of that relationship.
    pub provisioner: AkmId,
    /// What operators call it.
    pub name: String,
}

impl IdentityRecord {
    /// The record as it is stored, its SHA-256 behind it.
    pub fn emit(&self) -> Vec<u8> {
        checked(write(|e| {
            e.map(5)?.u8(0)?.u8(IDENTITY)?.u8(1)?.bytes(self.node.as_bytes())?;
            e.u8(2)?.bytes(self.relationship.as_bytes())?.u8(3)?.bytes(self.provisioner.as_bytes())?;
            e.u8(4)?.str(&self.name)?;
            Ok(())
        }))
    }

    /// Reads what [`IdentityRecord::emit`] made.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotRead> {
        let mut format = None;
        Self::read(bytes, &mut format).ok_or_else(|| not_read(format, IDENTITY))
    }

    fn read(bytes: &[u8], format: &mut Option<u8>) -> Option<Self> {
        let (mut node, mut relationship, mut provisioner, mut name) = (None, None, None, None);
        read_map(content(bytes)?, |key, d| {
            match key {
                0 => *format = Some(d.u8()?),
                1 => node = AkmId::try_from(d.bytes()?).ok(),
                2 => relationship = RelationshipId::try_from(d.bytes()?).ok(),
                3 => provisioner = AkmId::try_from(d.bytes()?).ok(),
                4 => name = Some(d.str()?.to_owned()),
                _ => return Err(Malformed),
            }
            Ok(())
        })
        .ok()?;
        (*format == Some(IDENTITY)).then_some(())?;
        Some(Self { node: node?, relationship: relationship?, provisioner: provisioner?, name: name? })
    }
}

/// What was installed of a generation as it is stored, its SHA-256 behind it. Whether the generation is active is not in it.
pub fn emit_installed(installed: &Installed) -> Vec<u8> {
    checked(write(|e| {
        e.map(9)?.u8(0)?.u8(INSTALLED)?.u8(1)?.bytes(&installed.sds.emit())?;
        e.u8(2)?.bytes(&installed.root_check.0)?.u8(3)?.bytes(&installed.host_part)?;
        e.u8(4)?.bytes(&installed.tag.0)?.u8(5)?.bytes(&installed.sealed_keys)?;
        e.u8(6)?.str(&installed.label)?.u8(7)?;
        write_texts(e, &installed.member_labels)?;
        e.u8(8)?;
        write_texts(e, &installed.endpoints)
    }))
}

/// Reads what [`emit_installed`] made, as one that is not active.
pub fn parse_installed(bytes: &[u8]) -> Result<Installed, NotRead> {
    let mut format = None;
    read_installed(bytes, &mut format).ok_or_else(|| not_read(format, INSTALLED))
}

fn read_installed(bytes: &[u8], format: &mut Option<u8>) -> Option<Installed> {
    let (mut sds, mut root_check, mut host_part) = (None, None, None);
    let (mut tag, mut sealed_keys) = (None, None);
    let (mut label, mut member_labels, mut endpoints) = (None, None, None);
    read_map(content(bytes)?, |key, d| {
        match key {
            0 => *format = Some(d.u8()?),
            1 => sds = SynchronizedDataSet::parse(d.bytes()?).ok(),
            2 => root_check = Some(RootCheck(read_bytes(d)?)),
            3 => host_part = Some(read_bytes(d)?),
            4 => tag = Some(Tag(read_bytes(d)?)),
            5 => sealed_keys = Some(read_bytes::<SEALED_KEYS_LENGTH>(d)?.to_vec()),
            6 => label = Some(d.str()?.to_owned()),
            7 => member_labels = Some(read_texts(d)?),
            8 => endpoints = Some(read_texts(d)?),
            _ => return Err(Malformed),
        }
        Ok(())
    })
    .ok()?;
    (*format == Some(INSTALLED)).then_some(())?;
    Some(Installed {
        sds: sds?,
        root_check: root_check?,
        host_part: host_part?,
        tag: tag?,
        sealed_keys: sealed_keys?,
        label: label?,
        member_labels: member_labels?,
        endpoints: endpoints?,
        active: false,
    })
}

/// Reads all generations in a relationship's directory, lowest first. What an installation that was cut off left
/// of one does not count.
pub(super) fn load_all(dir: &Path, relationship: RelationshipId) -> Vec<(u32, Result<Installed, NodeError>)> {
    let reading = match std::fs::read_dir(dir) {
        Ok(reading) => reading,
        Err(error) => return vec![(0, Err(NodeError::file("cannot read", dir)(error)))],
    };
    let (mut whole, mut active) = (BTreeSet::new(), BTreeSet::new());
    for entry in reading.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((stem, extension)) = name.split_once('.') else { continue };
        let Some(generation) = stem.strip_prefix('g').and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        if COPIES.contains(&extension) {
            whole.insert(generation);
        } else if extension == "active" {
            active.insert(generation);
        }
    }
    // One that was active and has lost both copies is damaged, not cut off.
    let generations = if whole.is_empty() { BTreeSet::from([0]) } else { &whole | &active };
    generations.into_iter().map(|generation| (generation, load(dir, relationship, generation))).collect()
}

/// Reads one generation in a relationship's directory, and puts a copy that is not whole right from the other.
fn load(dir: &Path, relationship: RelationshipId, generation: u32) -> Result<Installed, NodeError> {
    let damaged = |damage| NodeError::Damaged { path: dir.to_owned(), damage };
    if generation == 0 {
        return Err(damaged(Damage::NoCopies));
    }
    let paths = COPIES.map(|extension| dir.join(format!("g{generation}.{extension}")));
    let [first, second] = paths.each_ref().map(|path| Copy::read(path, relationship, generation));
    let mut installed = match (first, second) {
        (Ok(first), second) => {
            mend(&paths[1], second, &first.bytes);
            first.installed
        }
        (first, Ok(second)) => {
            mend(&paths[0], first, &second.bytes);
            second.installed
        }
        (Err(first), Err(second)) => {
            let [name, other] = COPIES.map(|extension| format!("g{generation}.{extension}"));
            return Err(damaged(Damage::Copies { copies: [(name, first), (other, second)] }));
        }
    };
    installed.active = dir.join(format!("g{generation}.active")).exists();
    Ok(installed)
}
/// The extensions of the two copies of what is installed.
const COPIES: [&str; 2] = ["installed", "copy"];

/// One whole copy of what was installed.
struct Copy {
    bytes: Vec<u8>,
    installed: Installed,
}

impl Copy {
    /// Reads a copy; the error says what it is instead, as the end of a sentence.
    fn read(path: &Path, relationship: RelationshipId, generation: u32) -> Result<Self, String> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err("is missing".to_owned()),
            Err(error) => return Err(format!("cannot be read ({error})")),
        };
        let installed = parse_installed(&bytes).map_err(|why| format!("is {why}"))?;
        if installed.sds.relationship() != relationship || installed.sds.generation() != generation {
            return Err(format!("is that of relationship {}", installed.sds.relationship()));
        }
        Ok(Self { bytes, installed })
    }
}

/// Writes a copy anew where it is not the same as the good one. Best effort: the good one serves.
fn mend(path: &Path, found: Result<Copy, String>, good: &[u8]) {
    let why = match found {
        Ok(copy) if copy.bytes == good => return,
        Ok(_) => "has another content".to_owned(),
        Err(why) => why,
    };
    match durable::replace(path, good) {
        Ok(()) => warn!(path = %path.display(), "{why}; written anew from the other copy"),
        Err(failed) => error!(path = %path.display(), "{why}, and cannot be written anew: {failed}"),
    }
}

/// Labels and endpoints of the members as they are stored, their SHA-256 behind them.
pub fn emit_endpoints(labels: &[String], endpoints: &[String]) -> Vec<u8> {
    checked(write(|e| {
        e.map(2)?.u8(0)?;
        write_texts(e, labels)?;
        e.u8(1)?;
        write_texts(e, endpoints)
    }))
}

/// Reads what [`emit_endpoints`] made, labels first; `None` if it is damaged.
pub fn parse_endpoints(bytes: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let (mut labels, mut endpoints) = (None, None);
    read_map(content(bytes)?, |key, d| {
        match key {
            0 => labels = Some(read_texts(d)?),
            1 => endpoints = Some(read_texts(d)?),
            _ => return Err(Malformed),
        }
        Ok(())
    })
    .ok()?;
    Some((labels?, endpoints?))
}

fn write_texts<W: minicbor::encode::Write<Error = core::convert::Infallible>>(
    e: &mut minicbor::Encoder<W>,
    texts: &[String],
) -> akm_core::cbor::WriteResult {
    e.array(texts.len() as u64)?;
    for text in texts {
        e.str(text)?;
    }
    Ok(())
}

fn read_texts(d: &mut minicbor::Decoder<'_>) -> Result<Vec<String>, Malformed> {
    (0..read_array(d, MEMBERS_MAX)?).map(|_| Ok(d.str()?.to_owned())).collect()
}

/// Appends the SHA-256 by which damage is recognised.
fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = sha256(&[&bytes]);
    bytes.extend_from_slice(&sum);
    bytes
}

/// What stands before the SHA-256, if that is right.
fn content(bytes: &[u8]) -> Option<&[u8]> {
    let (content, sum) = bytes.split_last_chunk::<32>().filter(|_| bytes.len() > 32)?;
    (sha256(&[content]) == *sum).then_some(content)
}
