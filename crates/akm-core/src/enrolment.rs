//! Enrolment: what goes over the local installation channel before there is a relationship
//! (protocol, section 12; steps 3 and 4 of the ceremony).

use alloc::string::String;
use alloc::vec::Vec;

use crate::cbor::{
    Malformed, Unreadable, read_array, read_message, read_message_from, unknown, write, write_secret,
};
use crate::crypto::hash::sha256;
use crate::element::{Description, Root};
use crate::id::{AkmId, RelationshipId};
use crate::management::{LABEL_MAX, read_description, write_description};
use crate::secret::SecretBytes;

/// The version of both messages.
pub const FORMAT: u8 = 2;

/// Most roots that an envelope may have erased, and a preparation may list.
pub const LEFTOVERS_MAX: usize = 4096;

/// What a target says before it is enrolled: the answer to `akmd enroll --prepare`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// The version of the stack.
    pub stack_version: String,
    /// The element.
    pub element: Description,
    /// What the module needs to wrap a root for the element.
    pub material: Vec<u8>,
    /// Who the target is already, if it is a node.
    pub node: Option<ExistingNode>,
    /// Roots of relationships that the element holds although no record of the node names them.
    pub leftovers: Vec<Root>,
}

/// The identity of a target that was provisioned before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExistingNode {
    /// Its AKM ID.
    pub node: AkmId,
    /// Its provisioning relationship.
    pub relationship: RelationshipId,
    /// The module of that relationship.
    pub provisioner: AkmId,
}

impl Preparation {
    /// Reads the message.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut format, mut stack_version, mut element, mut material) = (None, None, None, None);
        let (mut node, mut leftovers) = (None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => format = Some(read_format(d)?),
                1 => stack_version = Some(String::from(d.str()?)),
                2 => element = Some(read_description(d)?),
                3 => material = Some(d.bytes()?.to_vec()),
                4 => {
                    let (mut id, mut relationship, mut provisioner) = (None, None, None);
                    read_message_from(d, |key, d| {
                        match key {
                            0 => id = AkmId::try_from(d.bytes()?).ok(),
                            1 => relationship = RelationshipId::try_from(d.bytes()?).ok(),
                            2 => provisioner = AkmId::try_from(d.bytes()?).ok(),
                            _ => return unknown(key),
                        }
                        Ok(())
                    })?;
                    node = Some(ExistingNode {
                        node: id.ok_or(Malformed)?,
                        relationship: relationship.ok_or(Malformed)?,
                        provisioner: provisioner.ok_or(Malformed)?,
                    });
                }
                5 => leftovers = Some(read_roots(d)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        format.ok_or(Malformed)?;
        Ok(Self {
            stack_version: stack_version.ok_or(Malformed)?,
            element: element.ok_or(Malformed)?,
            material: material.ok_or(Malformed)?,
            node,
            leftovers: leftovers.ok_or(Malformed)?,
        })
    }

    /// The message as it is sent.
    pub fn emit(&self) -> Vec<u8> {
        write(|e| {
            e.map(5 + u64::from(self.node.is_some()))?.u8(0)?.u8(FORMAT)?;
            e.u8(1)?.str(&self.stack_version)?.u8(2)?;
            write_description(e, &self.element)?;
            e.u8(3)?.bytes(&self.material)?;
            if let Some(node) = &self.node {
                e.u8(4)?.map(3)?.u8(0)?.bytes(node.node.as_bytes())?;
                e.u8(1)?.bytes(node.relationship.as_bytes())?.u8(2)?.bytes(node.provisioner.as_bytes())?;
            }
            e.u8(5)?.array(self.leftovers.len() as u64)?;
            for root in &self.leftovers {
                e.bytes(&root.name())?;
            }
            Ok(())
        })
    }
}

/// What makes a target a node: the input of `akmd enroll`. The receipt covers these bytes.
#[derive(Debug)]
pub struct Envelope {
    /// The AKM ID of the node.
    pub node: AkmId,
    /// What operators call the node.
    pub name: String,
    /// An encoded [`crate::management::Install`] of the provisioning relationship.
    pub install: SecretBytes,
    /// The provisioning relationship that this one takes the place of; all that the target holds
    /// under it is erased once the new one is durable.
    pub replaces: Option<RelationshipId>,
    /// Leftovers (see [`Preparation`]) that the module knows and wants erased.
    pub erase: Vec<Root>,
}

impl Envelope {
    /// Reads the message.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (mut format, mut node, mut name, mut install) = (None, None, None, None);
        let (mut replaces, mut erase) = (None, None);
        read_message(bytes, |key, d| {
            match key {
                0 => format = Some(read_format(d)?),
                1 => node = AkmId::try_from(d.bytes()?).ok(),
                2 => name = Some(d.str()?).filter(|name| name.len() <= LABEL_MAX).map(String::from),
                3 => install = Some(SecretBytes::copy_from(d.bytes()?)),
                4 => replaces = Some(RelationshipId::try_from(d.bytes()?).map_err(|_| Malformed)?),
                5 => erase = Some(read_roots(d)?),
                _ => return unknown(key),
            }
            Ok(())
        })?;
        format.ok_or(Malformed)?;
        Ok(Self {
            node: node.ok_or(Malformed)?,
            name: name.ok_or(Malformed)?,
            install: install.ok_or(Malformed)?,
            replaces,
            erase: erase.ok_or(Malformed)?,
        })
    }

    /// The message as it is sent; it holds secrets.
    pub fn emit(&self) -> SecretBytes {
        let capacity = 96 + self.name.len() + self.install.len() + 26 * self.erase.len();
        write_secret(capacity, |e| {
            e.map(5 + u64::from(self.replaces.is_some()))?.u8(0)?.u8(FORMAT)?;
            e.u8(1)?
                .bytes(self.node.as_bytes())?
                .u8(2)?
                .str(&self.name)?
                .u8(3)?
                .bytes(self.install.expose())?;
            if let Some(replaces) = &self.replaces {
                e.u8(4)?.bytes(replaces.as_bytes())?;
            }
            e.u8(5)?.array(self.erase.len() as u64)?;
            for root in &self.erase {
                e.bytes(&root.name())?;
            }
            Ok(())
        })
    }
}

/// One file of an installed stack, as the integrity code sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StackFile {
    /// Relative to the installation, with `/` between its parts.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Of its content.
    pub sha256: [u8; 32],
}

/// The integrity code: over the files of a stack and the identity of the element (protocol,
/// section 13).
pub fn integrity_code(files: &[StackFile], element_identity: &[u8]) -> [u8; 32] {
    let mut sorted: Vec<&StackFile> = files.iter().collect();
    sorted.sort_unstable();
    let mut covered = Vec::new();
    for file in sorted {
        covered.extend_from_slice(file.path.as_bytes());
        covered.push(0);
        covered.extend_from_slice(&file.mode.to_be_bytes());
        covered.extend_from_slice(&file.sha256);
    }
    covered.extend_from_slice(&(element_identity.len() as u16).to_be_bytes());
    covered.extend_from_slice(element_identity);
    sha256(&[&covered])
}

/// Another format is told as that, before anything else in the message is looked at: it is the first key.
fn read_format(d: &mut minicbor::Decoder<'_>) -> Result<u8, Unreadable> {
    match d.u8()? {
        FORMAT => Ok(FORMAT),
        format => Err(Unreadable::Format { format, own: FORMAT }),
    }
}

fn read_roots(d: &mut minicbor::Decoder<'_>) -> Result<Vec<Root>, Malformed> {
    (0..read_array(d, LEFTOVERS_MAX)?).map(|_| Root::of_name(d.bytes()?).ok_or(Malformed)).collect()
}
