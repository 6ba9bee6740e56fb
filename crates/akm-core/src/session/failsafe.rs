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
use super::{Event, Instant, Rejection, Session, SessionError, Surroundings};
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
        let challenge = self.draw_nonce(surroundings);
        let initiated = Initiated { challenge, ends, confirmed: BTreeSet::new(), run: 0 };
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
            && let Some(run) = initiated.run.checked_add(1)
        {
            let mut root = self.epochs.draw(b"tree root", surroundings.random);
            let place = Place::before_first(run, Secret::take(&mut root));
            return self.take_place(place, Way::Failsafe, surroundings);
        }
        resync.initiated = None;
        resync.failsafe_allowed = Some(now + resync.failsafe_pause);
        resync.failsafe_pause = (resync.failsafe_pause * 2).min(LONGEST_PAUSE);
        self.tell(Event::FailsafeMissed { missing: missing as u16 });
        self.needs_module();
        Ok(())
    }
}
