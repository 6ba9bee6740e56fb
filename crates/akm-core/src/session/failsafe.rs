//! The failsafe, as member 0 (protocol, section 15): initiate (SEI), hear every other member confirm (SEC),
//! finish (SEF). All members or none.
//!
//! ```text
//!   nobody that it asked has a place
//!     -> requests without place are answered with a challenge, for as long as it stands
//!     -> every other member has confirmed it -> a tree root is drawn, the place made durable
//!     -> each that repeats its request is given that place, as in a fallback
//! ```

use alloc::collections::BTreeSet;
use core::time::Duration;

use super::event::Way;
use super::{Event, Instant, RandomSource, Rejection, Session, SessionError, Surroundings};
use crate::resync::{NONCE, ResyncRequest};
use crate::secret::Secret;
use crate::tree::Place;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A challenge that stands.
pub(super) struct Initiated {
    challenge: [u8; NONCE],
    ends: Instant,
    confirmed: BTreeSet<u16>,
    /// The highest run that any member knows of.
    run: u32,
}

impl Initiated {
    pub(super) fn due(&self) -> Instant {
        self.ends
    }

    pub(super) fn kept(&self) -> usize {
        self.confirmed.len()
    }
}

/// The run of a failsafe: the upper half is one above that of the highest run reported, the lower half is drawn. So two
/// failsafes that know nothing of each other take the same run once in 65,536 times, and where they differ the higher
/// one wins. `None` where the upper half has no successor.
fn run_above(highest: u32, random: &mut dyn RandomSource) -> Option<u32> {
    let upper = ((highest >> 16) as u16).checked_add(1)?;
    let mut lower = [0; 2];
    random.fill(&mut lower);
    Some(u32::from(upper) << 16 | u32::from(u16::from_be_bytes(lower)))
}

impl Session {
    /// Whether this member may begin a failsafe: it is member 0, was active, and nobody it asked has a place.
    pub(super) fn may_initiate(&self) -> bool {
        let asked = self.resync.as_ref().is_some_and(|resync| {
            resync.rounds > 0 && resync.round.as_ref().is_none_or(|round| !round.has_answer())
        });
        self.stage.is_lost() && self.active && self.membership.index() == 0 && asked
    }

    /// A member asks member 0, which has no place: the challenge to answer with, or `None` if this
    /// confirms one.
    pub(super) fn initiate(
        &mut self,
        sender: u16,
        request: &ResyncRequest,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<Option<[u8; NONCE]>, Rejection> {
        let now = surroundings.now;
        let others = self.membership.sds().members().len() - 1;
        let resync = self.resync.as_mut().expect("the caller has it");
        if request.has_place {
            // It will be asked in its turn. This may be a recording, so nothing changes because of it.
            return Err(Rejection::NoPlace);
        }
        if let Some(initiated) = &mut resync.initiated
            && now < initiated.ends
        {
            if request.challenge == Some(initiated.challenge) {
                initiated.confirmed.insert(sender);
                initiated.run = initiated.run.max(request.run);
                if initiated.confirmed.len() == others {
                    initiated.ends = now;
                }
                return Ok(None);
            }
            return Ok(Some(initiated.challenge));
        }
        if resync.initiated.is_some() || resync.failsafe_allowed.is_some_and(|allowed| now < allowed) {
            return Err(Rejection::NoPlace);
        }
        let ends = now + resync.pace;
        let run = resync.known_run;
        let challenge = self.draw_nonce(surroundings);
        let initiated = Initiated { challenge, ends, confirmed: BTreeSet::new(), run };
        self.resync.as_mut().expect("it was there").initiated = Some(initiated);
        Ok(Some(challenge))
    }

    /// All have confirmed, or time is up.
    pub(super) fn on_failsafe_timeout(
        &mut self,
        surroundings: &mut Surroundings<'_>,
    ) -> Result<(), SessionError> {
        let now = surroundings.now;
        let others = self.membership.sds().members().len() - 1;
        let resync = self.resync.as_mut().expect("the caller has it");
        let initiated = resync.initiated.as_ref().expect("the caller saw that its time has come");
        let missing = others - initiated.confirmed.len();
        if missing == 0
            && let Some(run) = run_above(initiated.run, surroundings.random)
        {
            let mut root = self.epochs.draw(b"tree root", surroundings.random);
            let place = Place::before_first(run, Secret::take(&mut root));
            return self.take_place(place, Way::Failsafe, surroundings);
        }
        resync.initiated = None;
        resync.failsafe_allowed = Some(now + resync.failsafe_pause);
        resync.failsafe_pause = (resync.failsafe_pause * 2).min(LONGEST_PAUSE);
        if missing > 0 {
            self.tell(Event::FailsafeMissed { missing: missing as u16 });
        }
        self.needs_module();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed([u8; 2]);

    impl RandomSource for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            out.copy_from_slice(&self.0);
        }
    }

    #[test]
    fn a_run_is_above_all_that_were_reported_and_its_lower_half_is_drawn() {
        assert_eq!(run_above(0, &mut Fixed([0, 0])), Some(0x0001_0000));
        assert_eq!(run_above(0, &mut Fixed([0xab, 0xcd])), Some(0x0001_abcd));
        assert_eq!(run_above(0x0001_ffff, &mut Fixed([0, 1])), Some(0x0002_0001));
        assert_eq!(run_above(0xfffe_1234, &mut Fixed([0xff, 0xff])), Some(0xffff_ffff));
        assert_eq!(run_above(0xffff_0000, &mut Fixed([0, 0])), None, "then only the module helps");
    }
}
