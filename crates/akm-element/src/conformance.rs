//! The one suite that every element passes, against the real thing.
//!
//! [`check`] opens the element again and again, never twice at a time, and panics with what the
//! element did wrong. It works with relationships of its own, leaves other roots alone, and erases
//! what it installed. The device key it erases too: not for an element that is in use.

use std::panic::{self, AssertUnwindSafe};

use akm_core::element::{Description, ElementError, Label, ProvisionableElement, Root, RootCheck};
use akm_core::id::RelationshipId;
use akm_core::keys::{CONTEXT_LENGTH, element_function};
use akm_core::secret::Secret;

/// Runs the whole suite.
///
/// `open` opens the element as after a restart: what was durable is there, nothing else. `wrap`
/// wraps a root as a module would, from the description and what `prepare` gave.
pub fn check(
    mut open: impl FnMut() -> Box<dyn ProvisionableElement>,
    mut wrap: impl FnMut(&Description, &[u8], Root, &Secret<32>) -> Vec<u8>,
) {
    let suite = &mut Suite { open: &mut open, wrap: &mut wrap };
    for (_, run) in Suite::CHECKS {
        run(suite);
    }
}

/// Runs the suite for somebody who watches: `tell` is told of each check, with what the element did wrong, if it did. Ends
/// with the first that fails, since later ones build on what earlier ones leave; returns whether all passed.
///
/// What a check panics with goes to `tell` and nowhere else, as long as no other thread panics meanwhile.
pub fn check_aloud(
    mut open: impl FnMut() -> Box<dyn ProvisionableElement>,
    mut wrap: impl FnMut(&Description, &[u8], Root, &Secret<32>) -> Vec<u8>,
    mut tell: impl FnMut(&str, Result<(), &str>),
) -> bool {
    let suite = &mut Suite { open: &mut open, wrap: &mut wrap };
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let passed = Suite::CHECKS.iter().all(|(name, run)| {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(&mut *suite)));
        let said = outcome.as_ref().err().map(|said| {
            let text = said.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| said.downcast_ref::<&str>().copied()).unwrap_or("it failed without a word")
        });
        tell(name, said.map_or(Ok(()), Err));
        outcome.is_ok()
    });
    panic::set_hook(hook);
    passed
}

type Open<'a> = &'a mut dyn FnMut() -> Box<dyn ProvisionableElement>;
type Wrap<'a> = &'a mut dyn FnMut(&Description, &[u8], Root, &Secret<32>) -> Vec<u8>;

/// What it looks at, in words, and how.
type Check<'a> = (&'static str, fn(&mut Suite<'a>));

struct Suite<'a> {
    open: Open<'a>,
    wrap: Wrap<'a>,
}

impl<'a> Suite<'a> {
    const CHECKS: [Check<'a>; 10] = [
        ("says the same of itself after a restart", Self::says_the_same_of_itself_after_a_restart),
        ("computes the element function", Self::computes_the_element_function),
        ("knows no root that was not installed", Self::knows_no_root_that_was_not_installed),
        ("installs once and keeps what it has", Self::installs_once_and_keeps_what_it_has),
        ("takes no wrapped root that is cut short", Self::takes_no_wrapped_root_that_is_cut_short),
        ("tells versions and roots of one version apart", Self::tells_versions_and_checks_apart),
        ("erases for good", Self::erases_for_good),
        ("makes one device key", Self::makes_one_device_key),
        ("counts up only", Self::counts_up_only),
        ("draws random bytes", Self::draws_random_bytes),
    ];

    fn says_the_same_of_itself_after_a_restart(&mut self) {
        let description = (self.open)().description();
        assert!(!description.kind.is_empty(), "the kind is empty");
        assert!(!description.manufacturer.is_empty(), "the manufacturer is empty");
        assert!(!description.manufacturer.contains('\0'), "the manufacturer contains a zero");
        assert!(!description.serial.is_empty(), "the serial number is empty");
        assert_eq!((self.open)().description(), description, "the description changed over a restart");
    }

    fn computes_the_element_function(&mut self) {
        let root = relationship(1);
        let key = [0x5a; 32];
        let element = &mut *(self.open)();
        self.install(element, root, key).expect("a root installs");
        let context: [u8; CONTEXT_LENGTH] = std::array::from_fn(|place| place as u8);
        let every_length = (0..=CONTEXT_LENGTH).map(|length| (Label::Epoch, length));
        let every_label = Label::ALL.into_iter().flat_map(|label| [(label, 0), (label, CONTEXT_LENGTH)]);
        for (label, length) in every_length.chain(every_label) {
            let context = &context[..length];
            let derived = element.derive(root, label, context).expect("an installed root derives");
            assert!(
                element_function(&key, label.as_bytes(), context).equals(derived.expose()),
                "F under {label:?} with {length} bytes of context is not that of the protocol"
            );
        }
        assert!(
            element.derive(root, Label::Epoch, &[0; CONTEXT_LENGTH + 1]).is_err(),
            "a context that is too long was accepted"
        );
        element.erase(root).expect("a root erases");
    }

    fn knows_no_root_that_was_not_installed(&mut self) {
        let element = &mut *(self.open)();
        assert_absent(element, relationship(1));
        assert_eq!(element.erase(relationship(1)), Ok(()), "erasing an absent root changes nothing");
    }

    fn installs_once_and_keeps_what_it_has(&mut self) {
        let root = relationship(1);
        let mut element = (self.open)();
        self.install(&mut *element, root, [1; 32]).expect("a root installs");
        assert_holds(&mut *element, root, [1; 32]);
        assert_eq!(
            self.install(&mut *element, root, [1; 32]),
            Ok(()),
            "installing what is held changes nothing"
        );
        let other = self.install(&mut *element, root, [2; 32]);
        assert!(
            matches!(other, Err(ElementError::Refused(_))),
            "another root under the same name is refused, not {other:?}"
        );
        assert_holds(&mut *element, root, [1; 32]);
        let device = self.install(&mut *element, Root::Device, [1; 32]);
        assert!(device.is_err(), "a device key was installed from outside");
        drop(element);

        let mut element = (self.open)();
        assert_holds(&mut *element, root, [1; 32]);
        element.erase(root).expect("a root erases");
    }

    fn takes_no_wrapped_root_that_is_cut_short(&mut self) {
        let root = relationship(1);
        let element = &mut *(self.open)();
        let wrapped = self.wrapped(element, root, [1; 32]);
        for length in [0, 1, wrapped.len() - 1] {
            assert!(
                element.install(root, &wrapped[..length]).is_err(),
                "a wrapped root cut to {length} bytes was accepted"
            );
            assert_absent(element, root);
        }
    }

    fn tells_versions_and_checks_apart(&mut self) {
        let first = relationship(1);
        let Root::Relationship { id, .. } = first else { unreachable!("a relationship") };
        let of_version_2 = |check| Root::Relationship { id, version: 2, check: RootCheck([check; 4]) };
        let (second, third) = (of_version_2(1), of_version_2(2));
        let element = &mut *(self.open)();
        self.install(element, third, [3; 32]).expect("a root installs");
        self.install(element, second, [2; 32]).expect("a root with another check installs");
        self.install(element, first, [1; 32]).expect("a root of another version installs");
        let names = [first, second, third];
        let ours: Vec<Root> = held(element).into_iter().filter(|root| names.contains(root)).collect();
        assert_eq!(ours, names, "all are listed, in ascending order");
        element.erase(first).expect("a root erases");
        assert_absent(element, first);
        assert_holds(element, second, [2; 32]);
        element.erase(second).expect("a root erases");
        assert_absent(element, second);
        assert_holds(element, third, [3; 32]);
        element.erase(third).expect("a root erases");
    }

    fn erases_for_good(&mut self) {
        let root = relationship(1);
        let mut element = (self.open)();
        self.install(&mut *element, root, [1; 32]).expect("a root installs");
        element.erase(root).expect("a root erases");
        assert_absent(&mut *element, root);
        assert_eq!(element.erase(root), Ok(()), "erasing twice changes nothing");
        drop(element);

        let mut element = (self.open)();
        assert_absent(&mut *element, root);
        self.install(&mut *element, root, [2; 32]).expect("another root installs once the first is erased");
        assert_holds(&mut *element, root, [2; 32]);
        element.erase(root).expect("a root erases");
    }

    fn makes_one_device_key(&mut self) {
        let mut element = (self.open)();
        element.erase(Root::Device).expect("a device key erases");
        assert_absent(&mut *element, Root::Device);
        element.make_device_key().expect("a device key is made");
        let first = of_device(&mut *element);
        assert!(held(&mut *element).contains(&Root::Device), "the device key is not listed");
        element.make_device_key().expect("making the device key again changes nothing");
        assert!(first.equals(of_device(&mut *element).expose()), "a second device key replaced the first");
        drop(element);

        let mut element = (self.open)();
        assert!(first.equals(of_device(&mut *element).expose()), "the device key changed over a restart");
        element.make_device_key().expect("making the device key again changes nothing");
        assert!(first.equals(of_device(&mut *element).expose()), "a second device key replaced the first");
        element.erase(Root::Device).expect("a device key erases");
        element.make_device_key().expect("a device key is made");
        assert!(!first.equals(of_device(&mut *element).expose()), "an erased device key came back");
        element.erase(Root::Device).expect("a device key erases");
    }

    fn counts_up_only(&mut self) {
        let mut element = (self.open)();
        let says = element.description().counter;
        assert_eq!(element.counter().is_some(), says, "the description is wrong about the counter");
        if !says {
            return;
        }
        let mut last = count(&mut *element);
        for _ in 0..3 {
            drop(element);
            element = (self.open)();
            let counter = element.counter().expect("the counter is there after a restart");
            assert_eq!(counter.value(), Ok(last), "the counter changed over a restart");
            for _ in 0..2 {
                let next = count(&mut *element);
                assert!(next > last, "the counter went from {last} to {next}");
                last = next;
            }
        }
    }

    fn draws_random_bytes(&mut self) {
        let mut drawn: Vec<[u8; 32]> = Vec::new();
        for _ in 0..2 {
            let element = &mut *(self.open)();
            element.random(&mut []).expect("no random bytes are no work");
            for _ in 0..8 {
                let mut bytes = [0; 32];
                element.random(&mut bytes).expect("random bytes are there");
                assert!(!drawn.contains(&bytes), "random bytes came twice");
                assert_ne!(bytes, [0; 32], "random bytes were not written");
                drawn.push(bytes);
            }
        }
    }

    fn wrapped(&mut self, element: &mut dyn ProvisionableElement, root: Root, mut key: [u8; 32]) -> Vec<u8> {
        let prepared = element.prepare().expect("preparing works");
        (self.wrap)(&element.description(), &prepared, root, &Secret::take(&mut key))
    }

    fn install(
        &mut self,
        element: &mut dyn ProvisionableElement,
        root: Root,
        key: [u8; 32],
    ) -> Result<(), ElementError> {
        let wrapped = self.wrapped(element, root, key);
        element.install(root, &wrapped)
    }
}

fn relationship(version: u32) -> Root {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system gives random bytes");
    Root::Relationship { id: RelationshipId::from_random(random), version, check: RootCheck([0; 4]) }
}

fn held(element: &mut dyn ProvisionableElement) -> Vec<Root> {
    let roots = element.roots().expect("the roots can be listed");
    assert!(roots.is_sorted_by(|a, b| a < b), "the roots are not listed in ascending order, each once");
    roots
}

fn assert_holds(element: &mut dyn ProvisionableElement, root: Root, key: [u8; 32]) {
    let derived = element.derive(root, Label::Receipt, b"which").expect("an installed root derives");
    let expected = element_function(&key, Label::Receipt.as_bytes(), b"which");
    assert!(expected.equals(derived.expose()), "it holds another root than was installed");
    assert!(held(element).contains(&root), "a root that is held is not listed");
}

fn assert_absent(element: &mut dyn ProvisionableElement, root: Root) {
    let derived = element.derive(root, Label::Epoch, &[]);
    assert!(
        matches!(derived, Err(ElementError::NoSuchRoot)),
        "a root that is not there gives NoSuchRoot, not {derived:?}"
    );
    assert!(!held(element).contains(&root), "a root that is not there is listed");
}

fn of_device(element: &mut dyn ProvisionableElement) -> Secret<32> {
    element.derive(Root::Device, Label::Seal, &7u64.to_be_bytes()).expect("the device key derives")
}

fn count(element: &mut dyn ProvisionableElement) -> u64 {
    let counter = element.counter().expect("the counter is there");
    let counted = counter.count_up().expect("the counter counts");
    assert_eq!(counter.value(), Ok(counted), "the counter reads another value than it counted to");
    counted
}
