//! What a command tells while it goes on, before its answer is there.
//!
//! Whoever calls gives one function that takes it, and makes what it shows out of the fields.

use std::time::Duration;

use crate::error::Error;
use crate::names::Name;

/// Something that happened on the way.
#[derive(Debug)]
pub enum Progress {
    /// The key of a vault that is being made is in an element about which there is something to mind.
    VaultInElement {
        /// The kind of the element.
        kind: String,
        /// What to mind.
        warning: &'static str,
    },
    /// A step of a ceremony begins.
    Begins {
        /// From 1 to 5.
        number: u8,
        /// One of [`STEP_NAMES`](crate::ceremony::STEP_NAMES).
        name: &'static str,
    },
    /// A step has come to its end.
    Step(StepReport),
    /// Of the ceremony of a node.
    Ceremony(OfCeremony),
    /// Of the removal of a node.
    Removal(OfRemoval),
    /// Of another generation of a provisioning relationship.
    Renewal(OfRenewal),
    /// Of an ASR that is made, changed or ended.
    Asr(OfAsr),
    /// Of work that goes on by itself.
    CarriedOn(OfWork),
}

/// How one step went.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// From 1 to 5.
    pub number: u8,
    /// One of [`STEP_NAMES`](crate::ceremony::STEP_NAMES).
    pub name: &'static str,
    /// How long it took.
    pub duration: Duration,
    /// What came out of it, in one line.
    pub outcome: String,
}

/// What there is to know of the ceremony of a node.
#[derive(Debug)]
pub enum OfCeremony {
    /// It was cut off, and goes on.
    GoesOn {
        /// The node that it makes.
        node: Name,
    },
    /// The stack of a node does not say whose it is: it is installed anew.
    StackAnew {
        /// Why it does not say.
        why: Error,
    },
    /// The element is software.
    SoftwareElement {
        /// The node.
        node: Name,
    },
    /// Nothing restarts the stack when the device starts again.
    NobodyRestarts {
        /// The node.
        node: Name,
        /// The directory of its stack on the device.
        dir: String,
    },
    /// The device was a node before, and that one a member of ASRs.
    LeftBehind {
        /// The node that the device is.
        node: Name,
        /// Where it is.
        target: String,
        /// The ASRs of which it is no member.
        asrs: Vec<String>,
    },
}

/// What there is to know of the removal of a node.
#[derive(Debug)]
pub enum OfRemoval {
    /// ASRs still list it.
    StillListed {
        /// The node.
        node: Name,
        /// The ASRs.
        asrs: Vec<String>,
    },
    /// Its credentials are erased, and its stack is still there.
    StackLeft {
        /// Why.
        why: Error,
    },
    /// The device may still hold its credentials.
    MayHold {
        /// Why that is not known, or what was refused.
        why: Error,
    },
}

/// What there is to know of another generation of the provisioning relationship of a node.
#[derive(Debug)]
pub enum OfRenewal {
    /// What was backed up of the module before does not open the node any more.
    BackupsAreOver {
        /// The node.
        node: Name,
    },
    /// Its element is software: whoever had its root reads the next one.
    HealsNothing {
        /// The node.
        node: Name,
    },
    /// Its element attests no key: it heals if nobody is root there meanwhile.
    HealsIfNobodyIsRoot {
        /// The node.
        node: Name,
    },
}

/// What there is to know of an ASR that is made, changed or ended.
#[derive(Debug)]
pub enum OfAsr {
    /// It was parked while it was made, and goes on.
    GoesOn {
        /// The ASR.
        asr: Name,
    },
    /// A change of it was parked, and goes on.
    ChangeGoesOn {
        /// The ASR.
        asr: Name,
        /// The generation that the change is.
        generation: u32,
    },
    /// An earlier one of this name has lost members: it is ended, and made anew.
    GivenUp {
        /// The ASR.
        asr: Name,
    },
    /// A member could not be told to erase what it holds of the one that was given up.
    GivenUpLeft {
        /// The member.
        node: Name,
        /// Why not.
        why: Error,
    },
    /// One member has an address that another can reach only on the same machine.
    Loopback {
        /// The member with the loopback address.
        near: Name,
        /// The other.
        far: Name,
    },
    /// It gets new roots because of a suspicion, and its members new provisioning relationships: what was backed up of the
    /// module before does not open these nodes any more.
    BackupsAreOver {
        /// The members that get one.
        nodes: Vec<Name>,
    },
    /// The elements of these members are software: whoever had their roots reads the next ones.
    HealsNothing {
        /// The members.
        nodes: Vec<Name>,
    },
    /// The elements of these members attest no key: it heals if nobody is root there meanwhile.
    HealsIfNobodyIsRoot {
        /// The members.
        nodes: Vec<Name>,
    },
    /// Who left erases it when it is next reached.
    ErasesLater {
        /// The ASR.
        asr: String,
        /// Who left.
        node: Name,
        /// Why it was not told.
        why: Error,
    },
}

/// What came of work that goes on by itself.
#[derive(Debug)]
pub enum OfWork {
    /// A member found back to the others by itself: the ASR gets another generation.
    FoundBack {
        /// The ASR.
        asr: Name,
    },
    /// All members have that generation.
    Renewed {
        /// The ASR.
        asr: Name,
    },
    /// That generation is parked, or another command works on the ASR.
    RenewedLater {
        /// The ASR.
        asr: Name,
        /// What it waits for.
        why: Error,
    },
    /// A generation that was parked came further.
    Generation {
        /// The ASR.
        asr: Name,
        /// The generation.
        generation: u32,
        /// How many members do not use it.
        lacking: usize,
    },
    /// A node erased what it held of ASRs that it is no member of.
    Erased {
        /// The node.
        node: Name,
    },
}

macro_rules! from {
    ($($variant:ident($inner:ty)),* $(,)?) => {
        $(
            impl From<$inner> for Progress {
                fn from(inner: $inner) -> Self {
                    Self::$variant(inner)
                }
            }
        )*
    };
}

from!(
    Step(StepReport),
    Ceremony(OfCeremony),
    Removal(OfRemoval),
    Renewal(OfRenewal),
    Asr(OfAsr),
    CarriedOn(OfWork)
);
