//! Why a node is not made, looked at or removed.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use akm_core::cbor::Unreadable;
use akm_core::id::{AkmId, RelationshipId};
use akm_element::InvalidElementSpec;
use akm_target::TargetUrlError;

use super::Kind;
use crate::names::{InvalidName, Name};
use crate::store::NodeStatus;

/// Why a node is not made, looked at or removed: by what whoever ordered it can do next.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no node of this name.
    #[error("there is no node {name}")]
    Unknown {
        /// The name.
        name: Name,
    },
    /// The node is being made or removed: that comes first.
    #[error("node {name} is {}", match status { NodeStatus::Removing => "being removed", _ => "not active" })]
    NotActive {
        /// Its name.
        name: Name,
        /// Where it stands.
        status: NodeStatus,
    },
    /// Something else is there: choose another name, target or element.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// The order does not fit together: change it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// There is nothing to do.
    #[error(transparent)]
    Done(#[from] Done),
    /// The element at the target did not do its part, or is somebody else's.
    #[error(transparent)]
    Element(#[from] AtElement),
    /// The device or what the module keeps of it is not as it has to be.
    #[error(transparent)]
    Device(#[from] Device),
    /// The node shows something else than was installed.
    #[error("node {name} shows another {what} than was installed: {found} instead of {expected}")]
    Differs {
        /// Its name.
        name: Name,
        /// What it shows.
        what: &'static str,
        /// As it was installed.
        expected: String,
        /// As it is shown.
        found: String,
    },
    /// The stack of the node was changed after it was installed.
    #[error("the stack of node {name} is not what was installed (its integrity code differs)")]
    Altered {
        /// Its name.
        name: Name,
    },
    /// The ceremony waits until the element, which is filled, is in its target.
    #[error("node {name} waits for its target: its element is filled")]
    Waits {
        /// The name of the node.
        name: Name,
    },
    /// Another command has just made this node anew.
    #[error("another command has just made node {name} anew")]
    MadeAnew {
        /// Its name.
        name: Name,
    },
}

/// What is there already, and is something else than was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Taken {
    /// The name is the module's own.
    #[error("the name {name} is taken by the module itself")]
    ByModule {
        /// The name.
        name: Name,
    },
    /// The name is that of another node.
    #[error("the name {name} is taken by the node at {target}")]
    ByNode {
        /// The name.
        name: Name,
        /// Where that node is.
        target: String,
    },
    /// A ceremony for another node was cut off at this target.
    #[error("a ceremony for node {name} was cut off at this target{}", match old { Some(old) => format!(", not in the place of {old}"), None => String::new() })]
    ByCeremony {
        /// The name of that node.
        name: Name,
        /// In whose place it was to be.
        old: Option<Name>,
    },
    /// A node at this target is being removed.
    #[error("node {name} at this target is being removed")]
    ByRemoval {
        /// Its name.
        name: Name,
    },
    /// The target is a node, by another name than the one that was ordered.
    #[error("this target is node {name} already")]
    Target {
        /// Its name.
        name: Name,
    },
    /// The target into which an element has come is another node of this module.
    #[error("{target} is node {name} of this module")]
    TargetOf {
        /// The target.
        target: String,
        /// The name of the node.
        name: Name,
    },
    /// The ceremony of this name is at another target.
    #[error("the ceremony of node {name} is at {target}")]
    Elsewhere {
        /// The name of the node.
        name: Name,
        /// The target.
        target: String,
    },
    /// What belongs to the node was sent to another target, and goes to no other.
    #[error("the state of node {name} is at {target} already, or on its way there")]
    Sent {
        /// The name of the node.
        name: Name,
        /// The target.
        target: String,
    },
    /// The device at the target of the node is another node.
    #[error("the device at {target} is left as it is: it is node {node} now")]
    Device {
        /// The target.
        target: String,
        /// The node that it is.
        node: AkmId,
    },
    /// The ceremony began with another element.
    #[error("this ceremony began with the element {element}")]
    Element {
        /// The element that it began with.
        element: String,
        /// The name of the node.
        name: Name,
    },
    /// The device has another element.
    #[error("the element of this device is {element}")]
    ElementOfDevice {
        /// The element that it has.
        element: String,
        /// The node that it is.
        name: Name,
    },
    /// The element was filled as one of another kind.
    #[error("the element of node {name} was filled as {filled}: {given} is of another kind")]
    ElementKind {
        /// The name of the node.
        name: Name,
        /// How it was named here.
        filled: String,
        /// How it is named at the target.
        given: String,
    },
}

/// What does not fit together in an order.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The directory is too long.
    #[error("the directory of the target is too long for a socket in it: at most {most} bytes")]
    Directory {
        /// The most bytes.
        most: usize,
    },
    /// The stack cannot listen at port 0.
    #[error("the address to listen at needs a port that is not 0")]
    Port,
    /// Where the target is reached cannot be written as an endpoint.
    #[error("{text} is no endpoint")]
    Host {
        /// What it would be.
        text: String,
    },
    /// The environment names no ports.
    #[error("{variable} names no ports: {text}")]
    Ports {
        /// The variable.
        variable: &'static str,
        /// What it says.
        text: String,
    },
    /// Another node is reached there.
    #[error("{endpoint} is where node {name} is reached")]
    Endpoint {
        /// Where.
        endpoint: String,
        /// The other node.
        name: Name,
    },
    /// Keys of a card for an element that is none.
    #[error("static keys are for cards, and this element is of kind {kind}")]
    NoCard {
        /// What it is.
        kind: String,
    },
    /// A software element cannot be plugged in.
    #[error("a software element is a file of its target: there is nothing to plug in here")]
    NothingToPlugIn,
    /// The element is not filled yet.
    #[error("the element of node {name} is not filled yet")]
    NotFilled {
        /// The name of the node.
        name: Name,
    },
    /// The ceremony goes on at its own target.
    #[error("the ceremony of node {name} is at {target}")]
    HasTarget {
        /// The name of the node.
        name: Name,
        /// The target.
        target: String,
    },
    /// No name can be made from the target.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Several ceremonies were cut off.
    #[error("several ceremonies were cut off: {}", names.iter().map(Name::as_str).collect::<Vec<_>>().join(", "))]
    SeveralCutOff {
        /// For these nodes.
        names: Vec<Name>,
    },
    /// The node is being made anew: its name means two.
    #[error("node {name} is being made anew")]
    BeingMadeAnew {
        /// Its name.
        name: Name,
    },
}

/// Why there is nothing to do.
#[derive(Debug, thiserror::Error)]
pub enum Done {
    /// The target is this node already.
    #[error("this target is node {name} already")]
    IsNode {
        /// Its name.
        name: Name,
    },
    /// The device is a node of this module already.
    #[error("this device is node {node} of this module already")]
    IsOurs {
        /// Which.
        node: AkmId,
    },
    /// The ceremony has come to its end.
    #[error("the ceremony of node {name} is over")]
    Over {
        /// The name of the node.
        name: Name,
    },
    /// No ceremony was cut off.
    #[error("no ceremony was cut off: nothing to resume")]
    NothingCutOff,
    /// No node is active.
    #[error("there is no active node: nothing to verify")]
    NoNodes,
}

/// What stands against an element.
#[derive(Debug, thiserror::Error)]
pub enum AtElement {
    /// It refused, in its own words.
    #[error("the element at {target} refused: {words}")]
    Refused {
        /// Where it is.
        target: String,
        /// Its words.
        words: String,
    },
    /// A card refused what the keys at hand were used for, in its own words.
    #[error("the element at {target} refused: {words}")]
    Card {
        /// Where it is.
        target: String,
        /// Its words.
        words: String,
    },
    /// It could not be erased.
    #[error("the element at {target} could not be erased: {words}")]
    NotErased {
        /// Where it is.
        target: String,
        /// Its words.
        words: String,
    },
    /// It holds a root that is not of this module.
    #[error("the element holds a root of relationship {relationship}, which is not of this module")]
    ForeignRoot {
        /// Whose root it is.
        relationship: RelationshipId,
    },
    /// It is another node's.
    #[error("this element ({element}) belongs to node {name} at {target}: a device must not be copied")]
    OfNode {
        /// Manufacturer and serial number.
        element: String,
        /// The node.
        name: Name,
        /// Where that is.
        target: String,
    },
    /// It makes the vault key.
    #[error("this element ({element}) makes the vault key of this module")]
    OfVault {
        /// Manufacturer and serial number.
        element: String,
    },
    /// Its receipt is wrong.
    #[error("the receipt of the element is wrong: it does not hold what was sent")]
    Receipt,
    /// It is not the one that was filled.
    #[error("the element in the target is {element}, not the one that was filled for node {name}")]
    NotTheFilled {
        /// Manufacturer and serial number.
        element: String,
        /// The node.
        name: Name,
    },
    /// A file has no keys for the card.
    #[error("{file} has no keys for card {serial}", file = .file.display())]
    NoCardKeys {
        /// The file.
        file: PathBuf,
        /// Of the card.
        serial: String,
    },
}

/// What stands against a device, or against what the module keeps of it.
#[derive(Debug, thiserror::Error)]
pub enum Device {
    /// It was provisioned by another module.
    #[error("this device was provisioned by another module ({module}) as node {node}")]
    AnotherModule {
        /// Which module.
        module: AkmId,
        /// As which node.
        node: AkmId,
    },
    /// The stack there does not do what it was asked.
    #[error("the stack at {target} does not {what}: {words}")]
    Stack {
        /// The target.
        target: String,
        /// What it was asked.
        what: &'static str,
        /// Its words.
        words: String,
    },
    /// The stack there was killed while it was asked whose node it is.
    #[error("the stack at {target} was killed while it was asked whose node it is")]
    Killed {
        /// The target.
        target: String,
        /// Its directory there.
        dir: String,
    },
    /// What the stack there says cannot be read.
    #[error("the stack at the target and this akm do not fit together: it did not say {tag} as expected")]
    Unreadable {
        /// The begin of the line that was looked for.
        tag: &'static str,
    },
    /// The stack there is of another version.
    #[error("the stack at the target does not fit this akm: {why}")]
    OtherVersion {
        /// How that shows in what it says.
        why: Unreadable,
    },
    /// The stack is still there after it was taken off.
    #[error("{target} still holds the stack")]
    StillThere {
        /// The target.
        target: String,
    },
    /// Nothing of the node is at its target.
    #[error("nothing of node {name} is at {target}: was the device moved, or wiped?")]
    NothingThere {
        /// The node.
        name: Name,
        /// The target.
        target: String,
    },
    /// The node is a member of ASRs, which would notice its absence.
    #[error("node {name} is a member of {}: its absence would be noticed there", asrs.join(", "))]
    IsMember {
        /// The node.
        name: Name,
        /// The ASRs.
        asrs: Vec<String>,
    },
    /// What travels with an element has not arrived.
    #[error("what travels with the element has not arrived at the target")]
    NotArrived,
    /// The secrets of the ceremony are gone.
    #[error("the secrets of the ceremony of node {name} are gone")]
    SecretsGone {
        /// The node.
        name: Name,
    },
    /// The store does not hold what it should.
    #[error("the store does not hold {what}")]
    NotInStore {
        /// What is missing.
        what: String,
    },
    /// What the store holds of a target cannot be read.
    #[error("the target in the store")]
    Target(#[source] TargetUrlError),
    /// What the store holds of an element cannot be read.
    #[error("the element in the store")]
    ElementSpec(#[source] InvalidElementSpec),
    /// There is no `akmd` beside this program.
    #[error("there is no akmd beside this program ({path})", path = .path.display())]
    NoStack {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The system did not do its part.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: String,
        /// Why not.
        source: io::Error,
    },
    /// Something that another part of AKM refused, and that cannot be amended here.
    #[error("{what}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Refusal {
    /// What kind of refusal this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::NoNode,
            Self::NotActive { .. } => Kind::NotActive,
            Self::Taken(taken) => match taken {
                Taken::ByModule { .. } | Taken::ByNode { .. } | Taken::Elsewhere { .. } => Kind::OtherName,
                Taken::ByCeremony { .. }
                | Taken::ByRemoval { .. }
                | Taken::Target { .. }
                | Taken::TargetOf { .. }
                | Taken::Sent { .. }
                | Taken::Device { .. } => Kind::OtherTarget,
                Taken::Element { .. } | Taken::ElementOfDevice { .. } | Taken::ElementKind { .. } => {
                    Kind::OtherElement
                }
            },
            Self::Unfit(Unfit::SeveralCutOff { .. } | Unfit::BeingMadeAnew { .. }) => Kind::Ambiguous,
            Self::Unfit(_) => Kind::Usage,
            Self::Done(Done::IsNode { .. } | Done::IsOurs { .. }) => Kind::Exists,
            Self::Done(Done::Over { .. } | Done::NothingCutOff | Done::NoNodes) => Kind::NothingToDo,
            Self::Element(
                AtElement::ForeignRoot { .. } | AtElement::OfNode { .. } | AtElement::OfVault { .. },
            ) => Kind::ElementOfAnother,
            Self::Element(_) => Kind::ElementRefused,
            Self::Device(device) => match device {
                Device::AnotherModule { .. } => Kind::AnotherModule,
                Device::Stack { .. } | Device::Killed { .. } => Kind::TargetFailed,
                Device::Unreadable { .. } | Device::OtherVersion { .. } => Kind::TargetFailed,
                Device::StillThere { .. } | Device::NotArrived => Kind::TargetFailed,
                Device::NothingThere { .. } => Kind::Unreachable,
                Device::IsMember { .. } => Kind::IsMember,
                Device::SecretsGone { .. } => Kind::CredentialsGone,
                Device::NotInStore { .. } | Device::Target(_) | Device::ElementSpec(_) => Kind::ModuleDamaged,
                Device::NoStack { .. } => Kind::NoStack,
                Device::System { .. } | Device::Refused { .. } => Kind::Failed,
            },
            Self::Differs { .. } | Self::Altered { .. } => Kind::NotAsInstalled,
            Self::Waits { .. } => Kind::Waits,
            Self::MadeAnew { .. } => Kind::Held,
        }
    }
}
