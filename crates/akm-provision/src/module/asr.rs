//! ASRs: made, changed, shown and ended.

use akm_core::policy::Policy;

use super::{Module, Reached};
use crate::error::Error;
use crate::error::relationship::Refusal;
use crate::names::Name;
use crate::progress::Progress;
use crate::relationship::{self, Change, MemberReport};
use crate::store::Relationship;
use crate::view::{Asr, Ended, Members, asrs};

/// An ASR as its members see it.
#[derive(Debug)]
pub struct AsrShown {
    /// The ASR, as it stands once what was parked for members that were reached has gone on.
    pub members: Members,
    /// What came of that.
    pub carried_on: Result<(), Error>,
}

impl Module {
    /// Makes an ASR, or goes on with one of the same name, members and policy that was parked.
    pub fn create_asr(
        &self,
        name: &Name,
        members: &[Name],
        policy: Policy,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Members, Error> {
        let reports = relationship::create(&self.store, name, members, policy, tell)?;
        Ok(Members::of(&self.store, name, reports)?)
    }

    /// Changes an ASR, or goes on with the same change that was parked.
    pub fn change_asr(
        &self,
        name: &Name,
        change: &Change,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Members, Error> {
        let reports = relationship::change(&self.store, name, change, tell)?;
        Ok(Members::of(&self.store, name, reports)?)
    }

    /// Ends an ASR; its members are told to erase it, or are when next reached.
    pub fn delete_asr(&self, name: &Name, tell: &mut dyn FnMut(Progress)) -> Result<Ended, Error> {
        relationship::delete(&self.store, name, tell)?;
        Ok(Ended::new(name.clone()))
    }

    /// All ASRs, by name.
    pub fn asrs(&self) -> Result<Vec<Asr>, Error> {
        Ok(asrs(&self.store)?)
    }

    /// One ASR as each of its members sees it. What is parked for members that were reached goes on first, and then they
    /// are asked again.
    pub fn asr(&self, name: &Name, tell: &mut dyn FnMut(Progress)) -> Result<AsrShown, Error> {
        let found = self.asr_named(name)?;
        let mut reports = relationship::show(&self.store, &found)?;
        let parked = relationship::tasks(&self.store)?.len();
        let carried_on = self.carry_on(&reached_of(&reports), tell);
        // What is shown is how it stands when this is done.
        if let Some(after) = self.store.asr_by_name(name)?
            && (after.sds.generation() != found.sds.generation()
                || relationship::tasks(&self.store)?.len() != parked)
        {
            reports = relationship::show(&self.store, &after)?;
        }
        Ok(AsrShown { members: Members::of(&self.store, name, reports)?, carried_on })
    }

    pub(super) fn asr_named(&self, name: &Name) -> Result<Relationship, Error> {
        Ok(self.store.asr_by_name(name)?.ok_or_else(|| Refusal::Unknown { name: name.clone() })?)
    }
}

fn reached_of(reports: &[MemberReport]) -> Reached {
    let mut reached = Reached::default();
    for report in reports {
        if let Ok(status) = &report.status {
            reached.add(report.node.id, std::slice::from_ref(status));
        }
    }
    reached
}
