//! What is left of generations that are gone: their records, and roots that nobody needs.
//!
//! The rules are those of [`akm_core::lineage`]; here is what they come to for disk and element.

use alloc::collections::BTreeSet;

use akm_core::element::Root;
use akm_core::id::RelationshipId;

use crate::GenerationId;
use crate::ask::Question;
use crate::door::Surroundings;
use crate::event::Event;
use crate::node::Node;
use crate::persist::Write;
use crate::relationship::Relationship;
use crate::task::{Hand, Stop, Work};

impl Node {
    /// The highest generation of a relationship that has an entry here, of whatever kind; 0 if there is none.
    pub(crate) fn highest(&self, relationship: RelationshipId) -> u32 {
        let all = (relationship, 0)..=(relationship, u32::MAX);
        let aside = self.set_aside.range(all).next_back().map(|((_, generation), _)| *generation);
        self.relationships.get(&relationship).map(Relationship::highest).max(aside).unwrap_or(0)
    }

    /// A generation became active: what is set aside below it is of no use to anybody any more.
    pub(crate) fn give_up_those_below(&mut self, of: GenerationId) {
        let all = (of.0, 0)..of;
        if self.set_aside.range(all.clone()).next().is_some() {
            self.set_aside.retain(|id, _| !all.contains(id));
            self.tidy(of.0);
        }
    }

    /// Has erased what is there of a relationship beside the generations in use. Where that fails the next start does it.
    pub(crate) fn tidy(&mut self, relationship: RelationshipId) {
        self.begin_task(Work::Tidy { relationship });
    }

    /// The same, as a task.
    pub(crate) fn tidy_up(
        &mut self,
        hand: &mut Hand,
        relationship: RelationshipId,
        _: &mut Surroundings<'_>,
    ) -> Result<(), Stop> {
        let result = self.try_tidy(hand, relationship);
        if let Err(Stop::Refused(_, why)) = &result {
            self.tell((relationship, 0), Event::NotTidied(why.clone()));
        }
        result
    }

    fn try_tidy(&mut self, hand: &mut Hand, relationship: RelationshipId) -> Result<(), Stop> {
        let all = (relationship, 0)..=(relationship, u32::MAX);
        if self.set_aside.range(all).next().is_some() {
            // Nobody knows which root it needs.
            return Ok(());
        }
        let Some(held) = self.relationships.get(&relationship) else { return Ok(()) };
        let in_use = held.lineage.sessions().map(|session| session.membership());
        let (kept, needed): (BTreeSet<u32>, BTreeSet<Root>) =
            in_use.map(|membership| (membership.sds().generation(), membership.root())).unzip();
        hand.write(Write::KeepGenerations { relationship, kept })?;
        for root in hand.roots()? {
            if matches!(root, Root::Relationship { id, .. } if id == relationship) && !needed.contains(&root)
            {
                hand.ask(Question::Erase(root))?;
            }
        }
        Ok(())
    }
}
