//! Each file of the module, damaged in each way: it is told by its name, or it does not matter; what is told changes
//! nothing, and is right again once the file is.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use akm_core::crypto::hash::sha256;
use support::damage::{
    Damage, OF_A_DIRECTORY, OF_A_FILE, bound_by_permissions, copy, differences, inventory, listing, remove,
    set_mode,
};
use support::plant::{AKM, Done, Plant, run};
use support::untouched::says_what_and_what_to_do;

/// What a command says of a damaged file.
enum Outcome {
    /// All goes on as if nothing had happened.
    Works,
    /// One line with these words; exit code 1.
    Told(&'static [&'static str]),
    /// SQLite has no checksums: where the damage is in what a command does not read, it works.
    ToldOrWorks(&'static [&'static str]),
}

use Outcome::{Told, ToldOrWorks, Works};

/// What the files of the module's home are called here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Home,
    VaultKey,
    VaultJson,
    Passphrase,
    Store,
    Wal,
    Shm,
    Locks,
    SchemaLock,
    AddressesLock,
    NodeLock,
    AsrLock,
    TargetLock,
}

impl Row {
    /// The row of a path in the home; `None` if nobody thought of it.
    fn of(path: &Path) -> Option<Self> {
        Some(match path.to_str()? {
            "" => Self::Home,
            "vault.key" => Self::VaultKey,
            "vault.json" => Self::VaultJson,
            "store.db" => Self::Store,
            "store.db-wal" => Self::Wal,
            "store.db-shm" => Self::Shm,
            "locks" => Self::Locks,
            "locks/schema.lock" => Self::SchemaLock,
            "locks/addresses.lock" => Self::AddressesLock,
            lock if lock.starts_with("locks/node-") => Self::NodeLock,
            lock if lock.starts_with("locks/asr-") => Self::AsrLock,
            lock if lock.starts_with("locks/target-") => Self::TargetLock,
            _ => return None,
        })
    }

    /// Whether SQLite reads and writes it.
    fn is_sqlite(self) -> bool {
        matches!(self, Self::Store | Self::Wal | Self::Shm)
    }

    /// What is to be expected, for every kind of damage.
    fn outcome(self, damage: Damage) -> Outcome {
        use Damage::*;
        match (self, damage) {
            (Self::Home, Missing) => Told(&["no module here", "akm init makes one"]),
            (Self::Home, File) => Told(&["home", "move that away"]),
            (Self::Home, Readable | Writable) => Told(&["chmod 700", "/home"]),
            (Self::Home, Unreadable) => Told(&["home/vault.key", "chown"]),

            (Self::VaultKey, Missing) => Told(&["vault", "/home", "restore vault.key"]),
            (Self::VaultKey, Empty | Half | MinusOne | Garbage) => {
                Told(&["home/vault.key", "32 bytes", "backup"])
            }
            (Self::VaultKey, FlippedFirst | FlippedMiddle | FlippedLast | Foreign) => {
                Told(&["vault key", "sealed under", "/home", "backup"])
            }
            (Self::VaultKey, Directory) => Told(&["home/vault.key", "move that away"]),
            (Self::VaultKey, Readable | Writable) => Told(&["home/vault.key", "chmod 600"]),
            (Self::VaultKey, Unreadable) => Told(&["home/vault.key", "chown"]),

            (Self::VaultJson, Missing) => Told(&["vault", "/home", "restore", "vault.json"]),
            (Self::VaultJson, Empty | Half | MinusOne | FlippedFirst | FlippedLast | Garbage) => {
                Told(&["home/vault.json", "damaged", "backup"])
            }
            // In the middle stands salt or sealed key: another one, or no Base64 any more.
            (Self::VaultJson, FlippedMiddle) => Told(&["home/vault.json", "backup"]),
            (Self::VaultJson, Foreign) => Told(&["home/vault.json", "passphrase", "backup"]),
            (Self::VaultJson, Directory) => Told(&["home/vault.json", "move that away"]),
            (Self::VaultJson, Readable | Writable) => Told(&["home/vault.json", "chmod 600"]),
            (Self::VaultJson, Unreadable) => Told(&["home/vault.json", "chown"]),

            (Self::Passphrase, Missing) => Told(&["/passphrase", "No such file"]),
            (Self::Passphrase, Empty) => Told(&["passphrase"]),
            // The last byte is the line end.
            (Self::Passphrase, MinusOne) => Works,
            (Self::Passphrase, Half | FlippedFirst | FlippedMiddle | FlippedLast | Garbage | Foreign) => {
                Told(&["wrong passphrase", "home/vault.json"])
            }
            (Self::Passphrase, Directory) => Told(&["/passphrase", "move that away"]),
            (Self::Passphrase, Readable | Writable) => Told(&["/passphrase", "chmod 600"]),
            (Self::Passphrase, Unreadable) => Told(&["/passphrase", "chown"]),

            (Self::Store, Missing | Empty) => Told(&["home/store.db", "missing or empty", "backup"]),
            (Self::Store, Half | MinusOne) => ToldOrWorks(&["home/store.db", "damaged", "backup"]),
            (Self::Store, FlippedFirst | Garbage) => Told(&["home/store.db", "damaged", "backup"]),
            (Self::Store, FlippedMiddle | FlippedLast) => {
                ToldOrWorks(&["home/store.db", "damaged", "backup"])
            }
            (Self::Store, Foreign) => Told(&["vault key", "/home", "backup"]),
            (Self::Store, Directory) => Told(&["home/store.db", "move that away"]),
            (Self::Store, Readable | Writable) => Told(&["home/store.db", "chmod 600"]),
            (Self::Store, Unreadable) => Told(&["home/store.db", "chown"]),

            // SQLite leaves out what its own checksums do not bear out: what stands in the store is older then.
            (Self::Wal, Foreign) => Told(&["/home", "backup"]),
            // Whoever only reads can do without an index of its own.
            (Self::Shm, Directory) => Works,
            (Self::Wal, Directory) => Told(&["home/store.db-wal", "move that away"]),
            (Self::Wal, Link) => Told(&["home/store.db-wal", "symbolic link"]),
            (Self::Wal, Unreadable) => Told(&["home/store.db-wal", "chown"]),
            (Self::Shm, Link) => Told(&["home/store.db-shm", "symbolic link"]),
            (Self::Shm, Unreadable) => Told(&["home/store.db-shm", "chown"]),

            (Self::Locks, File) => Told(&["home/locks", "move that away"]),
            (Self::Locks, Readable | Writable) => Told(&["home/locks", "chmod 700"]),
            (Self::Locks, Unreadable) => Told(&["home/locks", "chown"]),
            (Self::AddressesLock | Self::NodeLock | Self::AsrLock | Self::TargetLock, Directory) => {
                Told(&["home/locks/", ".lock", "move that away"])
            }
            (Self::AddressesLock | Self::NodeLock | Self::AsrLock | Self::TargetLock, Link) => {
                Told(&["home/locks/", ".lock", "symbolic link"])
            }
            (Self::AddressesLock | Self::NodeLock | Self::AsrLock | Self::TargetLock, Unreadable) => {
                Told(&["home/locks/", ".lock", "chown"])
            }

            // What is in a lock counts for nothing, and the one of the schema is for another version only.
            (
                Self::SchemaLock | Self::AddressesLock | Self::NodeLock | Self::AsrLock | Self::TargetLock,
                _,
            ) => Works,
            // It is made again; SQLite makes its log and index again.
            (Self::Locks | Self::Wal | Self::Shm, _) => Works,
            // The right one by another way, or the same as some time ago: the nodes help the module forward.
            (_, Link | Older) => Works,
            (row, damage) => unreachable!("{damage:?} does not happen to {row:?}"),
        }
    }
}

/// A module with two nodes and an ASR, what it was some time ago, and another one.
struct Ground {
    plant: Plant,
    other: Plant,
    passphrase: Vec<String>,
    id_of_b: String,
    endpoint_of_b: String,
    /// What `akm asr list` prints.
    asrs: String,
}

impl Ground {
    fn new(passphrase: Option<&str>) -> Self {
        let (plant, other) = (Plant::bare(), Plant::bare());
        let arguments = |plant: &Plant, text: &str| {
            let path = plant.place().join("passphrase");
            fs::write(&path, format!("{text}\n")).unwrap();
            set_mode(&path, 0o600);
            vec!["--passphrase-file".to_owned(), path.to_string_lossy().into_owned()]
        };
        let own = passphrase.map_or_else(Vec::new, |text| arguments(&plant, text));
        let others = passphrase.map_or_else(Vec::new, |_| arguments(&other, "of another vault"));
        let mut ground = Self {
            plant,
            other,
            passphrase: own,
            id_of_b: String::new(),
            endpoint_of_b: String::new(),
            asrs: String::new(),
        };
        for (plant, with, node) in [(&ground.plant, &ground.passphrase, "a"), (&ground.other, &others, "z")] {
            akm(plant, with, &["init", "--name", "plant"]).expect(0);
            let target = plant.target(node);
            akm(plant, with, &["provision", &target, "--name", node]).expect(0);
        }
        let target = ground.plant.target("b");
        ground.akm(&["provision", &target, "--name", "b"]).expect(0);
        ground.akm(&["asr", "create", "line", "a", "b"]).expect(0);
        let b = ground.akm(&["node", "show", "b", "--json"]).expect(0).json();
        ground.id_of_b = b["akm_id"].as_str().unwrap().to_owned();
        ground.endpoint_of_b = b["endpoint"].as_str().unwrap().to_owned();
        copy(&ground.plant.home(), &ground.image("older"));
        ground.akm(&["verify", "--all"]).expect(0);
        ground.asrs = ground.akm(&["asr", "list"]).expect(0).stdout;
        // A command that still reads keeps the next one from clearing the log away, as being killed does.
        for (plant, with, image) in [
            (&ground.plant, &ground.passphrase, ground.image("log")),
            (&ground.other, &others, ground.image("foreign")),
        ] {
            let reader = rusqlite::Connection::open(plant.home().join("store.db")).unwrap();
            reader.execute_batch("BEGIN").unwrap();
            reader.query_row("SELECT count(*) FROM nodes", [], |row| row.get::<_, i64>(0)).unwrap();
            akm(plant, with, &["verify", "--all"]).expect(0);
            copy(&plant.home(), &image);
        }
        for image in ["log", "foreign"] {
            assert!(fs::metadata(ground.image(image).join("store.db-wal")).unwrap().len() > 0);
        }
        ground
    }

    fn akm(&self, arguments: &[&str]) -> Done {
        akm(&self.plant, &self.passphrase, arguments)
    }

    fn image(&self, name: &str) -> PathBuf {
        self.plant.place().join("images").join(name)
    }

    /// The command that needs a file, and what it exits with where all is well.
    fn command(&self, row: Row, path: &Path) -> (Command, i32) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let target_of_b = self.plant.target("b");
        let lock_of_b = sha256(&[target_of_b.as_bytes()]).map(|byte| format!("{byte:02x}")).concat();
        let target = if name.contains(&lock_of_b) { target_of_b } else { self.plant.target("a") };
        let node = if name.contains(&self.id_of_b) { "b" } else { "a" };
        let (arguments, code): (Vec<&str>, i32) = match row {
            Row::AsrLock => (vec!["asr", "create", "line", "a", "b"], 3),
            Row::TargetLock => (vec!["provision", &target], 3),
            // Refused once the choice of addresses is its own: another node is reached there.
            Row::AddressesLock => (vec!["provision", &target, "--again", "--listen", &self.endpoint_of_b], 2),
            row if row.is_sqlite() => (vec!["asr", "list"], 0),
            _ => (vec!["verify", node], 0),
        };
        let mut command = Command::new(AKM);
        command.args(arguments).args(&self.passphrase).env("AKM_HOME", self.plant.home());
        command.envs([self.plant.ports()]);
        (command, code)
    }

    /// Puts the whole home back as it was.
    fn restore(&self, image: &str) {
        remove(&self.plant.home());
        copy(&self.image(image), &self.plant.home());
    }

    /// One cell of the table.
    fn check(&self, row: Row, path: &Path, damage: Damage) {
        let cell = format!("{damage:?} {row:?}");
        let [elsewhere, kept] = ["elsewhere", "kept"].map(|name| self.plant.place().join(name));
        fs::create_dir_all(&elsewhere).unwrap();
        remove(&kept);
        copy(path, &kept);
        let (command, right) = self.command(row, path);
        let (older, foreign) = match path.strip_prefix(self.plant.home()) {
            // Locks are named for what they lock: no other module has them.
            Ok(relative) => {
                (Some(self.image("older").join(relative)), Some(self.image("foreign").join(relative)))
            }
            Err(_) => (None, Some(self.other.place().join("passphrase"))),
        };
        let present = |path: Option<PathBuf>| path.filter(|path| path.exists());
        damage.happen(path, present(older).as_deref(), present(foreign).as_deref(), &elsewhere);
        // SQLite makes and removes the index beside the store as it likes.
        let everything = || inventory(self.plant.place(), |path| path.ends_with(".db-shm"));
        let before = everything();
        let mut tried = if damage == Damage::Unreadable { bound_by_permissions(&command) } else { command };
        let done = run(&mut tried);
        match row.outcome(damage) {
            Works => self.check_works(&cell, row, &done, right),
            ToldOrWorks(_) if done.code == Some(right) => self.check_works(&cell, row, &done, right),
            Told(says) | ToldOrWorks(says) => {
                let is_gone = row == Row::Home && damage == Damage::Missing;
                assert_eq!(done.code, Some(if is_gone { 10 } else { 1 }), "{cell}: {done:?}");
                says_what_and_what_to_do(&done, says);
                let changed = differences(&before, &everything());
                assert!(changed.is_empty(), "{cell}: {done:?} changed {changed:#?}");
            }
        }
        // What it advises helps; else the file is put back.
        if !follow(&done) {
            remove(path);
            copy(&kept, path);
        }
        let (mut command, right) = self.command(row, path);
        let done = run(&mut command);
        self.check_works(&format!("{cell}, put right"), row, &done, right);
    }

    fn check_works(&self, cell: &str, row: Row, done: &Done, right: i32) {
        assert_eq!(done.code, Some(right), "{cell}: {done:?}");
        if row.is_sqlite() {
            assert_eq!(done.stdout, self.asrs, "{cell}: it reads what nobody wrote");
        }
    }

    /// All kinds of damage to all files of the home, or of an image that is put there each time; returns the rows that
    /// it found.
    fn check_all(&self, rows: &[Row], image: Option<&str>) -> BTreeSet<Row> {
        let mut found = BTreeSet::new();
        let listed = image.map_or_else(|| self.plant.home(), |image| self.image(image));
        for relative in listing(&listed) {
            let row = Row::of(&relative).unwrap_or_else(|| panic!("no row for {}", relative.display()));
            // One of several locks stands for all of its kind.
            if !rows.contains(&row) || !found.insert(row) {
                continue;
            }
            let path = if relative.as_os_str().is_empty() {
                self.plant.home()
            } else {
                self.plant.home().join(relative)
            };
            let image_is_dir = matches!(row, Row::Home | Row::Locks);
            let kinds: &[Damage] = if image_is_dir { &OF_A_DIRECTORY } else { &OF_A_FILE };
            for damage in kinds {
                if let Some(image) = image {
                    self.restore(image);
                }
                self.check(row, &path, *damage);
            }
        }
        found
    }
}

fn akm(plant: &Plant, with: &[String], arguments: &[&str]) -> Done {
    run(plant.akm_command(arguments).args(with))
}

/// Runs the `chmod` that a message advises, if it does.
fn follow(done: &Done) -> bool {
    let Some((_, advised)) = done.stderr.split_once("run `chmod ") else { return false };
    let advised = advised.split('`').next().expect("the end of the command");
    let (mode, path) = advised.split_once(' ').expect("a mode and a path");
    run(Command::new("chmod").args([mode, path])).expect(0);
    true
}

#[test]
fn each_file_of_the_module_damaged_in_each_way_is_told_or_does_not_matter() {
    let ground = Ground::new(None);
    let mut found = ground.check_all(
        &[
            Row::Home,
            Row::VaultKey,
            Row::Store,
            Row::Locks,
            Row::SchemaLock,
            Row::AddressesLock,
            Row::NodeLock,
            Row::AsrLock,
            Row::TargetLock,
        ],
        None,
    );
    // The log and its index are there only while a command runs, or after one was killed.
    found.extend(ground.check_all(&[Row::Wal, Row::Shm], Some("log")));
    let wanted = [
        Row::Home,
        Row::VaultKey,
        Row::Store,
        Row::Wal,
        Row::Shm,
        Row::Locks,
        Row::SchemaLock,
        Row::AddressesLock,
        Row::NodeLock,
        Row::AsrLock,
        Row::TargetLock,
    ];
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        wanted,
        "rows that no file stands behind, or files without a row"
    );
}

#[test]
fn a_vault_under_a_passphrase_and_its_file_damaged_in_each_way_are_told() {
    let ground = Ground::new(Some("correct horse"));
    let found = ground.check_all(&[Row::VaultJson], None);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [Row::VaultJson]);
    let path = ground.plant.place().join("passphrase");
    for damage in OF_A_FILE {
        ground.check(Row::Passphrase, &path, damage);
    }
}
