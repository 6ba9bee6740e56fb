//! The software element: the suite, its file, and what is done to that.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use akm_core::element::RootCheck;
use akm_core::id::RelationshipId;
use tempfile::TempDir;

use super::*;
use crate::conformance;

const CHEAP: Cost = Cost { memory: 8, passes: 1, lanes: 1 };

/// A state directory with a passphrase file beside the element.
struct Home {
    directory: TempDir,
    sealed: bool,
}

impl Home {
    fn new(sealed: bool) -> Self {
        let home = Self { directory: TempDir::new().unwrap(), sealed };
        home.write_passphrase(b"correct horse\n");
        home
    }

    fn both() -> [Self; 2] {
        [Self::new(false), Self::new(true)]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn element_file(&self) -> PathBuf {
        self.path(FILE_NAME)
    }

    fn temporary(&self) -> PathBuf {
        self.path("element.tmp")
    }

    fn passphrase_file(&self) -> Option<PathBuf> {
        self.sealed.then(|| self.path("pass"))
    }

    fn write_passphrase(&self, passphrase: &[u8]) {
        write_private(&self.path("pass"), passphrase);
    }

    fn create(&self) -> SoftwareElement {
        let passphrase_file = self.passphrase_file();
        SoftwareElement::create_at_cost(self.directory.path(), passphrase_file.as_deref(), CHEAP).unwrap()
    }

    fn open(&self) -> Result<SoftwareElement, ElementError> {
        SoftwareElement::open(self.directory.path(), self.passphrase_file().as_deref())
    }

    fn refusal(&self) -> String {
        match self.open().unwrap_err() {
            ElementError::Refused(why) => why,
            other => panic!("refused, not {other:?}"),
        }
    }
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn relationship(number: u8) -> Root {
    Root::Relationship { id: RelationshipId::from_random([number; 16]), version: 1, check: RootCheck([0; 4]) }
}

fn derived(element: &mut SoftwareElement, root: Root) -> [u8; 32] {
    *element.derive(root, Label::Epoch, b"context").unwrap().expose()
}

#[test]
fn passes_the_suite_with_and_without_a_passphrase() {
    for home in Home::both() {
        drop(home.create());
        conformance::check(
            || Box::new(home.open().unwrap()),
            |_, _, _, root| wrap_for_software(root).expose().to_vec(),
        );
    }
}

#[test]
fn passes_the_suite_at_full_cost_through_its_spec() {
    let home = Home::new(true);
    let text = format!("software:passphrase-file={}", home.path("pass").display());
    let spec: crate::ElementSpec = text.parse().unwrap();
    let mut element = spec.create(home.directory.path()).unwrap();
    assert!(element.description().sealed);
    element.make_device_key().unwrap();
    drop(element);
    assert_eq!(spec.open(home.directory.path()).unwrap().roots(), Ok(vec![Root::Device]));
    assert!(spec.create(home.directory.path()).unwrap().roots().unwrap().contains(&Root::Device));
}

#[test]
fn an_element_that_is_missing_is_made_by_create_only() {
    for home in Home::both() {
        assert!(
            matches!(home.open(), Err(ElementError::Unavailable(why)) if why.contains("/element is missing"))
        );
        let serial = home.create().description().serial;
        assert_eq!(serial.len(), 32);
        assert_eq!(home.create().description().serial, serial);
        assert_eq!(home.open().unwrap().description().serial, serial);
        assert_eq!(fs::metadata(home.element_file()).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}

#[test]
fn two_elements_have_different_serial_numbers() {
    let [first, second] = Home::both().map(|home| home.create().description());
    assert_ne!(first.identity(), second.identity());
    assert_eq!((first.sealed, second.sealed), (false, true));
}

#[test]
fn debug_text_shows_no_secret() {
    for home in Home::both() {
        let mut element = home.create();
        element.install(relationship(1), &[0xc7; 32]).unwrap();
        element.make_device_key().unwrap();
        let path = home.element_file();
        assert_eq!(
            format!("{element:?}"),
            format!(
                "SoftwareElement {{ path: {path:?}, sealed: {}, counter: 0, roots: {{Device: Secret<32>, {:?}: \
                 Secret<32>}}, .. }}",
                home.sealed,
                relationship(1)
            )
        );
    }
}

#[test]
fn every_flipped_byte_is_recognised() {
    for home in Home::both() {
        let mut element = home.create();
        element.make_device_key().unwrap();
        element.install(relationship(1), &[1; 32]).unwrap();
        let whole = fs::read(home.element_file()).unwrap();
        for place in 0..whole.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut altered = whole.clone();
                altered[place] ^= mask;
                write_private(&home.element_file(), &altered);
                match home.open() {
                    Err(ElementError::Damaged(why)) => assert!(why.contains("/element "), "{why}"),
                    other => panic!("byte {place} ^ {mask:#x}: {other:?}"),
                }
            }
        }
        write_private(&home.element_file(), &whole);
        home.open().unwrap();
    }
}

#[test]
fn every_file_cut_short_or_made_longer_is_recognised() {
    for home in Home::both() {
        home.create().make_device_key().unwrap();
        let mut whole = fs::read(home.element_file()).unwrap();
        for length in 0..whole.len() {
            write_private(&home.element_file(), &whole[..length]);
            assert!(matches!(home.open(), Err(ElementError::Damaged(_))), "{length}");
            assert!(
                SoftwareElement::create(home.directory.path(), home.passphrase_file().as_deref()).is_err(),
                "{length}: a damaged element was replaced"
            );
        }
        whole.push(0);
        write_private(&home.element_file(), &whole);
        assert!(matches!(home.open(), Err(ElementError::Damaged(_))));
    }
}

#[test]
fn a_file_that_others_may_touch_is_refused_by_name() {
    for home in Home::both() {
        home.create();
        for mode in [0o640, 0o604, 0o660, 0o602, 0o700, 0o644] {
            fs::set_permissions(home.element_file(), Permissions::from_mode(mode)).unwrap();
            let why = home.refusal();
            assert!(why.contains("/element has mode 0") && why.contains("wider than 0600"), "{why}");
        }
        fs::set_permissions(home.element_file(), Permissions::from_mode(0o400)).unwrap();
        home.open().unwrap();
    }
}

#[test]
fn a_link_or_a_directory_in_place_of_the_file_is_not_followed() {
    let home = Home::new(false);
    home.create();
    fs::rename(home.element_file(), home.path("elsewhere")).unwrap();
    symlink(home.path("elsewhere"), home.element_file()).unwrap();
    assert!(home.open().is_err());
    fs::remove_file(home.element_file()).unwrap();
    fs::create_dir(home.element_file()).unwrap();
    assert!(home.refusal().contains("is not a regular file"));
}

#[test]
fn the_passphrase_must_be_the_right_one_in_a_private_file() {
    let home = Home::new(true);
    home.create().make_device_key().unwrap();

    home.write_passphrase(b"correct horse");
    home.open().unwrap();
    home.write_passphrase(b"correct horse\r\n");
    home.open().unwrap();
    for wrong in [&b"wrong"[..], b"correct horse\n\n", b"correct horse ", b"Correct horse\n"] {
        home.write_passphrase(wrong);
        let why = home.refusal();
        assert!(why.starts_with("wrong passphrase in /") && why.ends_with("/element is damaged"), "{why}");
    }
    home.write_passphrase(b"\n");
    assert!(home.refusal().ends_with("/pass holds no passphrase"));
    fs::write(home.path("pass"), b"correct horse\n").unwrap();
    fs::set_permissions(home.path("pass"), Permissions::from_mode(0o644)).unwrap();
    assert!(home.refusal().contains("/pass has mode 0644"));
    fs::remove_file(home.path("pass")).unwrap();
    assert!(matches!(home.open(), Err(ElementError::Unavailable(why)) if why.contains("/pass is missing")));
}

#[test]
fn a_seal_that_is_there_or_missing_against_expectation_is_told() {
    let [mut plain, mut sealed] = Home::both();
    plain.create();
    sealed.create();
    plain.sealed = true;
    assert!(plain.refusal().ends_with("is not sealed: set the element to software"));
    sealed.sealed = false;
    assert!(sealed.refusal().contains("is sealed: set the element to software:passphrase-file="));
}

#[test]
fn a_sealed_file_shows_no_root_and_is_new_at_each_write() {
    let home = Home::new(true);
    let mut element = home.create();
    element.install(relationship(1), &[0xc7; 32]).unwrap();
    let first = fs::read(home.element_file()).unwrap();
    assert!(!first.windows(4).any(|bytes| bytes == [0xc7; 4]));
    element.erase(relationship(1)).unwrap();
    element.install(relationship(1), &[0xc7; 32]).unwrap();
    assert_ne!(fs::read(home.element_file()).unwrap(), first);
}

#[test]
fn what_a_crash_left_beside_the_file_is_ignored_and_removed() {
    for home in Home::both() {
        let mut element = home.create();
        element.install(relationship(1), &[1; 32]).unwrap();
        let earlier = fs::read(home.element_file()).unwrap();
        element.erase(relationship(1)).unwrap();
        drop(element);
        for leftover in [&earlier[..], &earlier[..10], b""] {
            write_private(&home.temporary(), leftover);
            assert_eq!(home.open().unwrap().roots(), Ok(vec![]));
            assert!(!home.temporary().exists());
        }
    }
}

#[test]
fn a_crash_before_the_element_was_in_place_leaves_none() {
    let home = Home::new(false);
    write_private(&home.temporary(), b"half");
    assert!(home.open().is_err());
    home.create();
    assert!(!home.temporary().exists());
    home.open().unwrap();
}

#[test]
fn a_change_that_cannot_be_written_has_not_happened() {
    for home in Home::both() {
        let mut element = home.create();
        element.make_device_key().unwrap();
        element.install(relationship(1), &[1; 32]).unwrap();
        assert_eq!(element.count_up(), Ok(1));
        let before = fs::read(home.element_file()).unwrap();
        let device = derived(&mut element, Root::Device);

        fs::create_dir(home.temporary()).unwrap();
        let unavailable = |done: Result<(), ElementError>| match done {
            Err(ElementError::Unavailable(why)) => assert!(why.contains("/element.tmp: "), "{why}"),
            other => panic!("{other:?}"),
        };
        unavailable(element.install(relationship(2), &[2; 32]));
        unavailable(element.erase(relationship(1)));
        unavailable(element.erase(Root::Device));
        unavailable(element.count_up().map(drop));
        assert_eq!(element.roots(), Ok(vec![Root::Device, relationship(1)]));
        assert_eq!(element.value(), Ok(1));
        assert_eq!(derived(&mut element, Root::Device), device);
        assert_eq!(fs::read(home.element_file()).unwrap(), before);
        assert_eq!(element.install(relationship(1), &[1; 32]), Ok(()));
        assert_eq!(element.erase(relationship(2)), Ok(()));
        assert_eq!(element.make_device_key(), Ok(()));

        fs::remove_dir(home.temporary()).unwrap();
        assert_eq!(element.count_up(), Ok(2));
        drop(element);
        assert_eq!(home.open().unwrap().value(), Ok(2));
    }
}

#[test]
fn without_its_directory_an_element_changes_nothing() {
    let home = Home::new(false);
    let mut element = home.create();
    fs::rename(home.directory.path(), home.directory.path().with_extension("gone")).unwrap();
    assert!(matches!(element.count_up(), Err(ElementError::Unavailable(_))));
    assert!(matches!(element.make_device_key(), Err(ElementError::Unavailable(_))));
    assert_eq!(element.value(), Ok(0));
    assert_eq!(element.roots(), Ok(vec![]));
    fs::rename(home.directory.path().with_extension("gone"), home.directory.path()).unwrap();
    assert_eq!(element.count_up(), Ok(1));
}

#[test]
fn what_another_program_wrote_is_not_overwritten() {
    for home in Home::both() {
        let mut first = home.create();
        let mut second = home.open().unwrap();
        second.install(relationship(1), &[1; 32]).unwrap();
        let refused = first.count_up();
        assert!(
            matches!(&refused, Err(ElementError::Unavailable(why)) if why.contains("changed by another program")),
            "{refused:?}"
        );
        assert_eq!(home.open().unwrap().roots(), Ok(vec![relationship(1)]));
        assert_eq!(second.count_up(), Ok(1));
    }
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let home = Home::new(true);
    let mut element = home.create();
    element.make_device_key().unwrap();
    element.install(relationship(1), &[1; 32]).unwrap();
    let before = fs::read(home.element_file()).unwrap();
    element.make_device_key().unwrap();
    element.install(relationship(1), &[1; 32]).unwrap();
    element.install(relationship(1), &[2; 32]).unwrap_err();
    element.erase(relationship(2)).unwrap();
    assert_eq!(fs::read(home.element_file()).unwrap(), before);
}

#[test]
fn a_counter_at_its_end_stays_there() {
    let home = Home::new(false);
    let mut element = home.create();
    element.change(|content| content.counter = u64::MAX).unwrap();
    assert!(matches!(element.count_up(), Err(ElementError::Refused(_))));
    assert_eq!(element.value(), Ok(u64::MAX));
}

fn relationship_root(number: u8) -> Root {
    Root::Relationship { id: RelationshipId::from_random([number; 16]), version: 1, check: RootCheck([0; 4]) }
}

#[test]
fn many_roots_are_kept_with_one_write_or_none_of_them() {
    for home in Home::both() {
        let mut element = home.create();
        let key = |number: u8| Secret::take(&mut [number; 32]);
        element
            .install_all((1..=50).map(|number| (relationship_root(number), key(number))).collect())
            .unwrap();
        let before = fs::read(home.element_file()).unwrap();
        let other = [(relationship_root(60), key(60)), (relationship_root(7), key(8))];
        assert!(matches!(element.install_all(other.into()), Err(ElementError::Refused(_))));
        assert!(matches!(
            element.install_all([(Root::Device, key(1))].into()),
            Err(ElementError::Refused(_))
        ));
        assert_eq!(fs::read(home.element_file()).unwrap(), before);

        let mut element = home.open().unwrap();
        assert_eq!(element.roots().unwrap(), (1..=50).map(relationship_root).collect::<Vec<_>>());
        let made = element.derive(relationship_root(7), Label::Receipt, b"x").unwrap();
        assert!(made.equals(element_function(&[7; 32], b"akm1 receipt", b"x").expose()));
    }
}
