//! A stack gets onto a device: the same story at a directory of this machine and over ssh, against a real OpenSSH
//! server on loopback; then what can go wrong on the way.

#[path = "../../akm/tests/support/sshd.rs"]
mod sshd;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use akm_target::{DirKind, Release, Stack, Supervision, Target, TargetError, TargetUrl};
use sshd::Sshd;
use tempfile::TempDir;

/// A program that answers as `akmd` does, as far as an installation asks, and writes down what it is asked.
fn akmd(place: &Path, version: &str) -> PathBuf {
    let path = place.join(format!("akmd-{version}"));
    let script = format!(
        r#"#!/bin/sh
case $1 in
--version) echo 'akmd {version}' ;;
run | stop) echo "$*" >>"$3/state/calls" ;;
status) echo 'not running' >&2; exit 7 ;;
*) printf '%s|' "$@"; cat ;;
esac
"#
    );
    fs::write(&path, script).unwrap();
    path
}

fn release(place: &Path, target: &Target, version: &str) -> Release {
    Stack::load(&akmd(place, version)).unwrap().release("listen = \"127.0.0.1:4711\"\n", target.dir())
}

fn target(url: &str, config: Option<&Path>) -> Target {
    Target::new(url.parse::<TargetUrl>().unwrap(), config)
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn current(target: &Target) -> Option<String> {
    let link = fs::read_link(format!("{}/current", target.dir())).ok()?;
    Some(link.to_str().unwrap().strip_prefix("releases/").unwrap().to_owned())
}

/// Tells the story twice: at `local:` and at `ssh://`, each with a directory of its own below `sub`.
fn both(sub: &str, story: impl Fn(&TempDir, Target)) {
    let place = tempfile::tempdir().unwrap();
    story(&place, target(&format!("local:{}/{sub}", place.path().display()), None));
    let place = tempfile::tempdir().unwrap();
    let server = Sshd::start();
    story(&place, target(&server.url(&format!("{}/{sub}", place.path().display())), Some(&server.config())));
}

fn the_whole_life(place: &TempDir, target: Target) {
    let dir = target.dir().to_owned();
    let found = target.probe().unwrap();
    assert_eq!((found.dir, found.release.as_deref(), found.has_state), (DirKind::Absent, None, false));
    assert_eq!((found.system.as_str(), found.machine.as_str()), ("Linux", std::env::consts::ARCH));
    assert!(found.missing.is_empty() && found.free_bytes.unwrap() > 0);
    assert!(!Path::new(&dir).exists(), "a probe changes nothing");

    // Staged is not yet installed.
    let first = release(place.path(), &target, "1.0.0");
    let staged = target.stage(&first).unwrap();
    assert_eq!((staged.version(), staged.uploaded()), ("akmd 1.0.0", true));
    assert_eq!(current(&target), None);
    assert_eq!(target.switch(&staged).unwrap(), None);
    assert_eq!(current(&target).as_deref(), Some(first.id()));
    assert_eq!(names(&format!("{dir}/current")), ["akmd", "akmd.service", "akmd.toml", "manifest"]);
    for (path, bits) in [
        ("", 0o755),
        ("/state", 0o700),
        ("/run", 0o700),
        ("/current/akmd", 0o755),
        ("/current/akmd.toml", 0o644),
        ("/current/akmd.service", 0o644),
        ("/current/manifest", 0o644),
    ] {
        assert_eq!(mode(&format!("{dir}{path}")), bits, "{path}");
    }
    let found = target.probe().unwrap();
    assert_eq!(
        (found.dir, found.release.as_deref(), found.has_state),
        (DirKind::Ours, Some(first.id()), true)
    );

    // Again: nothing is sent and nothing changes.
    let again = target.install(&first).unwrap();
    assert_eq!((again.uploaded, again.previous, again.version.as_str()), (false, None, "akmd 1.0.0"));

    // What was cut off earlier is cleared away; the release before is kept, older ones are not.
    fs::create_dir_all(format!("{dir}/releases/.staging-0123456789abcdef.1")).unwrap();
    let second = release(place.path(), &target, "2.0.0");
    assert_eq!(target.install(&second).unwrap().previous.as_deref(), Some(first.id()));
    let third = release(place.path(), &target, "3.0.0");
    assert_eq!(target.install(&third).unwrap().previous.as_deref(), Some(second.id()));
    let mut kept = [second.id().to_owned(), third.id().to_owned()];
    kept.sort();
    assert_eq!(names(&format!("{dir}/releases")), kept);

    // Back to the one before, which is there.
    let back = target.install(&second).unwrap();
    assert_eq!((back.uploaded, back.previous.as_deref()), (false, Some(third.id())));

    // A file that was changed on the device is repaired, one that does not belong there goes.
    fs::write(format!("{dir}/current/akmd"), "#!/bin/sh\necho akmd 6.6.6\n").unwrap();
    fs::write(format!("{dir}/current/.hidden"), "").unwrap();
    let repaired = target.install(&second).unwrap();
    assert_eq!((repaired.uploaded, repaired.version.as_str()), (true, "akmd 2.0.0"));
    assert_eq!(names(&format!("{dir}/current")), ["akmd", "akmd.service", "akmd.toml", "manifest"]);
    fs::set_permissions(format!("{dir}/current/akmd.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(target.install(&second).unwrap().uploaded, "a mode that differs is damage");

    // The program gets arguments, standard input and its own exit code.
    let input: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let output = target.akmd(&["enroll", "--prepare", "it's \"$HOME\" \\ *", ""], &input).unwrap();
    let mut expected = format!("enroll|--dir|{dir}|--prepare|it's \"$HOME\" \\ *||").into_bytes();
    expected.extend(&input);
    assert!(output.code == Some(0) && output.stdout == expected);
    let output = target.akmd(&["status"], b"").unwrap();
    assert_eq!((output.code, output.last_words()), (Some(7), "not running".to_owned()));

    // It runs, stops and goes.
    if !target.probe().unwrap().has_systemd || target.url().is_local() {
        assert_eq!(target.start().unwrap(), Supervision::Background);
        target.stop().unwrap();
        let calls = fs::read_to_string(format!("{dir}/state/calls")).unwrap();
        assert_eq!(calls, format!("stop --dir {dir}\nrun --dir {dir} --detach\nstop --dir {dir}\n"));
    }
    assert!(target.uninstall().unwrap());
    assert!(!Path::new(&dir).exists());
    assert!(!target.uninstall().unwrap(), "there is nothing left to remove");
    target.stop().unwrap();
    let error = target.start().unwrap_err().to_string();
    assert!(error.contains("no stack is installed in"), "{error}");
    let error = target.akmd(&["status"], b"").unwrap_err().to_string();
    assert!(error.contains("no stack is installed in"), "{error}");
}

#[test]
fn a_stack_is_installed_changed_repaired_and_removed() {
    both("node", the_whole_life);
}

#[test]
fn odd_characters_in_the_directory_change_nothing() {
    both("deep er/it's \"$HOME\" \\ * %h; -n", the_whole_life);
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    both("home", |place, target| {
        fs::create_dir(target.dir()).unwrap();
        let release = release(place.path(), &target, "1.0.0");
        fs::write(format!("{}/.letter", target.dir()), "dear").unwrap();
        assert_eq!(target.probe().unwrap().dir, DirKind::Foreign);
        let error = target.install(&release).unwrap_err();
        assert!(matches!(error, TargetError::Occupied { .. }), "{error}");
        assert!(!target.uninstall().unwrap());
        assert_eq!(names(target.dir()), [".letter"]);

        fs::remove_file(format!("{}/.letter", target.dir())).unwrap();
        assert_eq!(target.probe().unwrap().dir, DirKind::Empty);
        target.install(&release).unwrap();

        // What was put beside it later outlives it.
        fs::write(format!("{}/letter", target.dir()), "dear").unwrap();
        assert!(target.uninstall().unwrap());
        assert_eq!(names(target.dir()), ["letter"]);
    });
}

#[test]
fn a_file_in_the_way_is_told_with_its_path() {
    both("file/node", |place, target| {
        fs::write(place.path().join("file"), "").unwrap();
        let error = target.install(&release(place.path(), &target, "1.0.0")).unwrap_err();
        assert!(matches!(&error, TargetError::Unwritable { path, .. } if path.ends_with("/file")), "{error}");
    });
}

#[test]
fn a_stack_for_another_machine_is_refused_before_anything_is_sent() {
    both("node", |place, target| {
        let mut program = fs::read("/bin/true").unwrap();
        let (needs, number) =
            if cfg!(target_arch = "s390x") { ("Linux x86_64", 62) } else { ("Linux s390x", 22) };
        program[5] = if number == 22 { 2 } else { 1 };
        let halves = |value: u16| if number == 22 { value.to_be_bytes() } else { value.to_le_bytes() };
        program[16..18].copy_from_slice(&halves(3));
        program[18..20].copy_from_slice(&halves(number));
        let path = place.path().join("foreign");
        fs::write(&path, program).unwrap();
        let release = Stack::load(&path).unwrap().release("", target.dir());
        match target.install(&release).unwrap_err() {
            TargetError::WrongArchitecture { stack, machine, .. } => {
                assert_eq!(stack, needs);
                assert_eq!(machine, format!("Linux {}", std::env::consts::ARCH));
            }
            error => panic!("{error}"),
        }
        assert!(!Path::new(target.dir()).exists());
    });
}

#[test]
fn a_program_that_is_no_akmd_is_refused_from_its_staging_place() {
    both("node", |place, target| {
        let first = release(place.path(), &target, "1.0.0");
        target.install(&first).unwrap();
        let script = |name: &str, text: &str| {
            let path = place.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        for (program, said) in [
            (PathBuf::from("/bin/true"), "coreutils"),
            (script("silent", "#!/bin/sh\n"), "it said nothing"),
            (script("failing", "#!/bin/sh\nexit 3\n"), "without a word"),
            (script("lost", "#!/nowhere/interpreter\n"), "not found"),
        ] {
            let release = Stack::load(&program).unwrap().release("", target.dir());
            let error = target.install(&release).unwrap_err().to_string();
            assert!(
                error.contains("`akmd --version` does not work there") && error.contains(said),
                "{error}"
            );
            assert_eq!(current(&target).as_deref(), Some(first.id()));
        }
    });
}

/// A server at which `tar` is a script of the test's, in front of the real one.
fn server_with_tar(place: &Path, body: &str) -> Sshd {
    let bin = place.join("bin");
    fs::create_dir(&bin).unwrap();
    let tar = bin.join("tar");
    fs::write(&tar, format!("#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin\n{body}\n")).unwrap();
    fs::set_permissions(&tar, fs::Permissions::from_mode(0o755)).unwrap();
    Sshd::start_with_path(&bin)
}

/// Installs 1.0.0 in peace, then 2.0.0 with what the test does to `tar`; that must fail and change nothing.
fn fails_with_tar(body: &str) -> TargetError {
    let place = tempfile::tempdir().unwrap();
    let dir = format!("{}/node", place.path().display());
    let peaceful = target(&format!("local:{dir}"), None);
    let first = release(place.path(), &peaceful, "1.0.0");
    peaceful.install(&first).unwrap();
    let server = server_with_tar(place.path(), body);
    let disturbed = target(&server.url(&dir), Some(&server.config()));
    let second = release(place.path(), &disturbed, "2.0.0");
    let error = disturbed.install(&second).unwrap_err();
    assert_eq!(current(&peaceful).as_deref(), Some(first.id()));
    assert_eq!(peaceful.install(&second).unwrap().previous.as_deref(), Some(first.id()));
    let mut kept = [first.id().to_owned(), second.id().to_owned()];
    kept.sort();
    assert_eq!(names(&format!("{dir}/releases")), kept, "nothing is left of the first try");
    error
}

#[test]
fn an_upload_cut_off_leaves_current_alone() {
    let error = fails_with_tar("head -c 700 | tar \"$@\"");
    assert!(error.to_string().contains("did not arrive whole"), "{error}");
}

#[test]
fn a_target_that_dies_in_the_upload_leaves_current_alone() {
    let error = fails_with_tar("head -c 700 | tar \"$@\"; kill -9 $PPID");
    assert!(matches!(error, TargetError::Unreachable { .. }), "{error}");
}

#[test]
fn a_file_changed_in_the_staging_place_is_refused() {
    let error = fails_with_tar("tar \"$@\" && echo '# more' >>\"$4/akmd\"");
    assert!(matches!(&error, TargetError::Damaged { what, .. } if what == "akmd"), "{error}");
}

#[test]
fn a_full_disk_is_told_plainly() {
    let error = fails_with_tar("echo 'tar: akmd: Cannot write: No space left on device' >&2; exit 2");
    assert!(error.to_string().contains("the disk is full; make room"), "{error}");
}

fn unreachable(url: &str, config: &Path) -> String {
    let error = target(url, Some(config)).probe().unwrap_err();
    match &error {
        TargetError::Unreachable { hint, .. } => format!("{error}; {hint}"),
        _ => panic!("{error}"),
    }
}

#[test]
fn a_host_that_does_not_let_us_in_is_told_with_what_to_do() {
    let server = Sshd::start();
    let url = server.url("/opt/akm");
    let text = unreachable(&url, &server.config_of_a_stranger());
    assert!(
        text.contains("Host key verification failed") && text.contains("compare the fingerprint"),
        "{text}"
    );
    let text = unreachable(&url, &server.config_with_other_host_key());
    assert!(text.contains("another key than before"), "{text}");
    let text = unreachable(&url, &server.config_with_wrong_key());
    assert!(text.contains("Permission denied") && text.contains("authorized_keys"), "{text}");
    let text = unreachable(&url, Path::new("/nowhere/config"));
    assert!(text.contains("configuration file"), "{text}");
    let text = unreachable("ssh://name.invalid", &server.config());
    assert!(text.contains("Could not resolve hostname") && text.contains("spelling"), "{text}");

    let (config, user) = (server.config(), server.user().to_owned());
    let kept = tempfile::tempdir().unwrap();
    let copy = kept.path().join("config");
    fs::copy(config, &copy).unwrap();
    drop(server);
    let text = unreachable(&url, &copy);
    assert!(text.contains("Connection refused") && text.contains("nothing listens there"), "{text}");
    assert!(text.contains(&format!("ssh://{user}@127.0.0.1")), "{text}");
}

#[test]
fn an_alias_of_the_ssh_configuration_is_a_target_and_is_resolved() {
    let server = Sshd::start();
    let place = tempfile::tempdir().unwrap();
    let device = target(&format!("ssh://device{}/node", place.path().display()), Some(&server.config()));
    assert_eq!(device.network_host().unwrap(), "127.0.0.1");
    assert_eq!(device.probe().unwrap().dir, DirKind::Absent);
    assert_eq!(target("local:/x", None).network_host().unwrap(), "127.0.0.1");
}

#[test]
fn what_a_login_shell_prints_does_not_disturb() {
    let place = tempfile::tempdir().unwrap();
    let server =
        Sshd::start_with("ForceCommand echo 'dir=foreign'; echo welcome >&2; eval \"$SSH_ORIGINAL_COMMAND\"");
    let device = target(&server.url(&format!("{}/node", place.path().display())), Some(&server.config()));
    assert_eq!(device.probe().unwrap().dir, DirKind::Absent);
    assert_eq!(device.install(&release(place.path(), &device, "1.0.0")).unwrap().version, "akmd 1.0.0");
}
