//! What a start decides (protocol, section 10): which sealed places are good under the element's
//! counter, and under which seal they live from then on.
//!
//! ```text
//!   begin -> examine each place -> (write the good ones again, under seal) -> count_up -> use them
//! ```
//!
//! A crash at any point of this leaves places that the next start accepts. The writing is the
//! caller's.

use crate::crypto::CryptoProvider;
use crate::element::{ElementError, ProvisionableElement};
use crate::keys::{PlaceSeal, sealed_start};
use crate::sds::SynchronizedDataSet;
use crate::tree::Place;

/// What the sealed place of a relationship says at a start.
#[derive(Debug)]
pub enum SealedPlace {
    /// Written during this start's predecessor, or during a start that was cut off before it counted.
    Good(Place),
    /// There is none, or too little of it to say from which start it is.
    Missing,
    /// It does not open, or is no place.
    Damaged,
    /// It is from another start: older than the element's counter allows. It is not used.
    RolledBack,
}

/// Why a start cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The element did not count.
    #[error(transparent)]
    Element(#[from] ElementError),
    /// The counter is not where this start expected it: something else uses the element.
    #[error("the element's counter moved by itself: does another program use this element?")]
    CounterMoved,
}

/// One start of a node, up to the moment when its places are used.
#[derive(Debug)]
pub struct Start {
    counts: bool,
    /// Of the start before, and of this one.
    seals: [PlaceSeal; 2],
}

impl Start {
    /// Reads the element's counter and asks it for the seals of the start before and of this one.
    /// Without a counter both are that of start 0.
    pub fn begin(element: &mut dyn ProvisionableElement) -> Result<Self, ElementError> {
        let counted = match element.counter() {
            Some(counter) => Some(counter.value()?),
            None => None,
        };
        let next = counted.map_or(0, |counted| counted + 1);
        let seals = [PlaceSeal::derive(element, counted.unwrap_or(0))?, PlaceSeal::derive(element, next)?];
        Ok(Self { counts: counted.is_some(), seals })
    }

    /// Judges the sealed place of a relationship; `None` if there is none.
    pub fn examine(
        &self,
        provider: &dyn CryptoProvider,
        sds: &SynchronizedDataSet,
        sealed: Option<&[u8]>,
    ) -> SealedPlace {
        let Some((sealed, start)) = sealed.and_then(|sealed| Some((sealed, sealed_start(sealed)?))) else {
            return SealedPlace::Missing;
        };
        let Some(seal) = self.seals.iter().find(|seal| seal.start() == start) else {
            return SealedPlace::RolledBack;
        };
        let place = seal.open(provider, sds.suite(), sds.digest(), sealed).ok();
        place
            .and_then(|place| Place::parse(place.expose()).ok())
            .map_or(SealedPlace::Damaged, SealedPlace::Good)
    }

    /// Whether each good place must be durable under [`Start::seal`] before [`Start::count_up`]. Where
    /// nothing counts, nothing has to be written.
    pub fn rewrites(&self) -> bool {
        self.counts
    }

    /// The seal of this start.
    pub fn seal(&self) -> &PlaceSeal {
        &self.seals[1]
    }

    /// The seal of this start, for whoever has seen the counter come to [`PlaceSeal::start`] of it.
    pub fn into_seal(self) -> PlaceSeal {
        let [_, seal] = self.seals;
        seal
    }

    /// Counts up, after which the good places that were written may be used. One that was not written
    /// must not be used: it will count as rolled back.
    pub fn count_up(self, element: &mut dyn ProvisionableElement) -> Result<PlaceSeal, StartError> {
        let [_, seal] = self.seals;
        if let Some(counter) = element.counter()
            && counter.count_up()? != seal.start()
        {
            return Err(StartError::CounterMoved);
        }
        Ok(seal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Suite, provider};
    use crate::element::{Description, Label, MonotonicCounter, Protection, Root, SecureElement};
    use crate::id::{AkmId, RelationshipId};
    use crate::keys::element_function;
    use crate::sds::{Generation, Kind};
    use crate::secret::Secret;
    use alloc::string::String;
    use alloc::vec::Vec;

    struct Counting {
        count: u64,
        counts_by: u64,
    }

    struct Element(Option<Counting>);

    impl SecureElement for Element {
        fn derive(&mut self, _: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
            Ok(element_function(&[7; 32], label.as_bytes(), context))
        }

        fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
            out.fill(9);
            Ok(())
        }
    }

    impl MonotonicCounter for Counting {
        fn value(&mut self) -> Result<u64, ElementError> {
            Ok(self.count)
        }

        fn count_up(&mut self) -> Result<u64, ElementError> {
            self.count += self.counts_by;
            Ok(self.count)
        }
    }

    impl ProvisionableElement for Element {
        fn description(&self) -> Description {
            Description {
                kind: String::from("memory"),
                manufacturer: String::new(),
                serial: String::new(),
                firmware: String::new(),
                protection: Protection::Software,
                sealed: false,
                counter: self.0.is_some(),
            }
        }

        fn prepare(&mut self) -> Result<Vec<u8>, ElementError> {
            Ok(Vec::new())
        }

        fn make_device_key(&mut self) -> Result<(), ElementError> {
            Ok(())
        }

        fn install(&mut self, _: Root, _: &[u8]) -> Result<(), ElementError> {
            Err(ElementError::Full)
        }

        fn erase(&mut self, _: Root) -> Result<(), ElementError> {
            Ok(())
        }

        fn roots(&mut self) -> Result<Vec<Root>, ElementError> {
            Ok(Vec::new())
        }

        fn counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
            self.0.as_mut().map(|counting| counting as &mut dyn MonotonicCounter)
        }
    }

    fn counting(count: u64) -> Element {
        Element(Some(Counting { count, counts_by: 1 }))
    }

    fn sds() -> SynchronizedDataSet {
        SynchronizedDataSet::new(Generation {
            kind: Kind::Communication,
            relationship: RelationshipId::from_bytes([1; 16]).unwrap(),
            generation: 1,
            element_version: 1,
            instance: [2; 16],
            suite: Suite::Aes256Gcm,
            members: Vec::from([3, 4].map(|id| AkmId::from_bytes([id; 16]).unwrap())),
            policy: Vec::new(),
        })
        .unwrap()
    }

    fn sealed_during(start: u64) -> Vec<u8> {
        let seal = PlaceSeal::derive(&mut Element(None), start).unwrap();
        let place = Place::before_first(0, Secret::fill(|root| root.fill(5))).at(41).unwrap();
        seal.seal(provider(), Suite::Aes256Gcm, sds().digest(), &[6; 16], place.emit().expose())
    }

    fn verdict(element: &mut Element, sealed: Option<&[u8]>) -> &'static str {
        match Start::begin(element).unwrap().examine(provider(), &sds(), sealed) {
            SealedPlace::Good(place) => {
                assert_eq!(place.epoch(), 41);
                "good"
            }
            SealedPlace::Missing => "missing",
            SealedPlace::Damaged => "damaged",
            SealedPlace::RolledBack => "rolled back",
        }
    }

    #[test]
    fn places_of_the_start_before_and_of_one_that_was_cut_off_are_good_and_no_others() {
        let verdicts: Vec<_> =
            (5..=10).map(|start| verdict(&mut counting(7), Some(&sealed_during(start)))).collect();
        assert_eq!(verdicts, ["rolled back", "rolled back", "good", "good", "rolled back", "rolled back"]);
    }

    #[test]
    fn without_a_counter_there_is_one_start_and_nothing_to_write() {
        assert_eq!(verdict(&mut Element(None), Some(&sealed_during(0))), "good");
        assert_eq!(verdict(&mut Element(None), Some(&sealed_during(1))), "rolled back");
        let start = Start::begin(&mut Element(None)).unwrap();
        assert!(!start.rewrites());
        assert_eq!(start.count_up(&mut Element(None)).unwrap().start(), 0);
    }

    #[test]
    fn what_is_not_there_or_does_not_open_is_told_apart() {
        assert_eq!(verdict(&mut counting(7), None), "missing");
        assert_eq!(verdict(&mut counting(7), Some(&[0; 7])), "missing");
        assert_eq!(verdict(&mut counting(7), Some(&sealed_during(7)[..8])), "damaged");
        let mut flipped = sealed_during(7);
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(verdict(&mut counting(7), Some(&flipped)), "damaged");
    }

    #[test]
    fn the_counter_goes_up_by_one_to_the_start_of_the_seal() {
        let mut element = counting(7);
        let start = Start::begin(&mut element).unwrap();
        assert!(start.rewrites());
        assert_eq!(start.seal().start(), 8);
        assert_eq!(element.counter().unwrap().value(), Ok(7), "not before the places are written");
        assert_eq!(start.count_up(&mut element).unwrap().start(), 8);
    }

    #[test]
    fn a_counter_that_moves_by_itself_stops_the_start() {
        let mut element = Element(Some(Counting { count: 7, counts_by: 2 }));
        let start = Start::begin(&mut element).unwrap();
        assert_eq!(start.count_up(&mut element).unwrap_err(), StartError::CounterMoved);
    }
}
