//! Small disks, mounted for one test.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set in the process that runs in mounts of its own.
const INSIDE: &str = "AKM_TEST_HAS_OWN_MOUNTS";

/// The ways to mounts that nobody else sees: as root, as any user, as a user who may become root.
const WAYS: [&[&str]; 3] = [
    &["unshare", "--mount"],
    &["unshare", "--map-root-user", "--mount"],
    &["sudo", "--non-interactive", "--preserve-env", "unshare", "--mount"],
];

/// Runs the body of the test of this name in a process of its own that may mount what it likes: it ends with the test.
pub(crate) fn in_own_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let place = tempfile::tempdir().expect("a directory for the test");
    let way = WAYS.into_iter().find(|way| {
        let mut mount = Command::new(way[0]);
        mount.args(&way[1..]).args(["mount", "-t", "tmpfs", "-o", "size=64k", "none"]).arg(place.path());
        mount.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success())
    });
    let Some(way) = way else {
        panic!(
            "this test fills up small disks and makes them read-only, and nobody here may mount one: none of {WAYS:?} \
             can. Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu also \
             kernel.apparmor_restrict_unprivileged_userns=0), or run it as root with CAP_SYS_ADMIN (docker: --cap-add \
             SYS_ADMIN --security-opt apparmor=unconfined)"
        );
    };
    let own = std::env::current_exe().expect("the path of this program");
    let done = Command::new(way[0])
        .args(&way[1..])
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "yes")
        .stdin(Stdio::null())
        .output()
        .expect("it can be started");
    let (said, told) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("1 passed"), "{said}\n{told}");
}

/// A disk of its own at a directory; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts an empty disk of so many KiB at a directory, which is made.
    pub(crate) fn mount(at: &Path, kib: u64) -> Self {
        fs::create_dir_all(at).expect("a directory to mount at");
        let options = format!("size={kib}k,mode=700");
        mount(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(at));
        Self { at: at.to_owned() }
    }

    /// Takes all room of the disk but so many KiB, in pages of 4 KiB.
    pub(crate) fn fill_but(&self, kib: u64) {
        self.make_room();
        // What is kept free is taken first, so that exactly that is free in the end.
        let kept = self.at.join(".kept");
        fs::write(&kept, vec![0; usize::try_from(kib * 1024).expect("a small disk")]).expect("room to keep");
        let mut filler = File::create(self.filler()).expect("a file to fill the disk with");
        loop {
            match filler.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{}: {error}", self.at.display()),
            }
        }
        fs::remove_file(kept).expect("what was kept can be removed");
    }

    /// Gives all room back.
    pub(crate) fn make_room(&self) {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", self.at.display()),
            _ => {}
        }
    }

    /// Takes away or gives back the right to write.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        let option = if read_only { "remount,ro" } else { "remount,rw" };
        mount(Command::new("mount").args(["-o", option]).arg(&self.at));
        let tried = OpenOptions::new().write(true).create(true).truncate(true).open(self.filler());
        assert_eq!(tried.is_err(), read_only, "the disk is not as it should be: {tried:?}");
        if !read_only {
            self.make_room();
        }
    }

    fn filler(&self) -> PathBuf {
        self.at.join(".filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process of the test may still stand there; the disk goes with it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

/// Makes a file or directory somebody else's. Where there is no other user to give it to, what is root's outside takes
/// its place.
pub(crate) fn give_away(path: &Path) {
    if std::os::unix::fs::chown(path, Some(65_534), None).is_err() {
        let other = if path.is_dir() { "/usr" } else { "/etc/passwd" };
        mount(Command::new("mount").args(["--bind", other]).arg(path));
    }
}

/// Takes it back.
pub(crate) fn take_back(path: &Path) {
    if std::os::unix::fs::chown(path, Some(rustix::process::geteuid().as_raw()), None).is_err() {
        mount(Command::new("umount").arg(path));
    }
}

fn mount(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().expect("it can be started");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
