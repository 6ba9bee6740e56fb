//! What is done at a target, one script each.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::shell::{ProcessOutput, Shell, clean};
use crate::stack::{Release, hex};
use crate::url::DEFAULT_DIR;
use crate::{TargetError, TargetUrl};

/// Room to be left beside the files of a release: directories, and what a file takes beyond its length.
const SPARE_BYTES: u64 = 256 << 10;

const SYSTEMD_RUNS: &str = "/run/systemd/system";
const SYSTEMD_UNITS: &str = "/etc/systemd/system";

macro_rules! script {
    ($($part:literal),+) => {
        concat!(include_str!("scripts/prelude.sh"), $(include_str!(concat!("scripts/", $part, ".sh"))),+)
    };
}

const PROBE: &str = script!("probe");
const STAGE: &str = script!("stage");
const SWITCH: &str = script!("switch");
const DELIVER: &str = script!("deliver");
const AKMD: &str = script!("akmd");
const START: &str = script!("service", "start");
const STOP: &str = script!("service", "stop");
const UNINSTALL: &str = script!("service", "uninstall");

/// A device, or a directory standing for one, that a stack is put onto.
///
/// Holds no connection: each call is a command of its own, and two values for one target do not know each other.
/// Calls that change the target must not overlap.
#[derive(Debug, Clone)]
pub struct Target {
    url: TargetUrl,
    shell: Shell,
}

/// What was found at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The system (`uname -s`).
    pub system: String,
    /// The machine (`uname -m`).
    pub machine: String,
    /// The user as whom the scripts run; 0 is root.
    pub user_id: u32,
    /// Whether systemd runs there.
    pub has_systemd: bool,
    /// What the directory is.
    pub dir: DirKind,
    /// The release that `current` points to.
    pub release: Option<String>,
    /// Whether there is a state directory: a stack was there before.
    pub has_state: bool,
    /// The directory, or its nearest parent that exists.
    pub place: String,
    /// The bytes free in `place`, where they can be told.
    pub free_bytes: Option<u64>,
    /// The programs that an installation needs and that are missing.
    pub missing: Vec<String>,
}

/// What the directory of a target is before an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirKind {
    /// There is none; it will be made.
    Absent,
    /// It is there and empty.
    Empty,
    /// It holds an installation of ours, complete or not.
    Ours,
    /// It holds something else.
    Foreign,
    /// It, or a part of an installation of ours in it, belongs to another user.
    Owned,
    /// It, or a parent of it, is not a directory.
    Blocked,
}

/// A release that lies at the target, whole and able to run, whether or not `current` points to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a staged release is not used before `switch`"]
pub struct Staged {
    id: String,
    manifest_sha256: String,
    version: String,
    uploaded: bool,
}

/// What an installation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledRelease {
    /// The release that `current` points to.
    pub release: String,
    /// What the program says of itself: `akmd X.Y.Z`.
    pub version: String,
    /// Whether files were sent; not if the release was there and whole.
    pub uploaded: bool,
    /// The release that `current` pointed to before, if another; it is kept.
    pub previous: Option<String>,
}

/// Who keeps a stack running at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supervision {
    /// The systemd unit of this name.
    Unit(String),
    /// Nobody: a process in the background.
    Background,
}

/// What a script of ours answered, by key.
pub type Fields = BTreeMap<String, String>;

impl Target {
    /// A target; `ssh_config` replaces the operator's own configuration of ssh (`ssh -F`).
    pub fn new(url: TargetUrl, ssh_config: Option<&Path>) -> Self {
        let shell = Shell::new(&url, ssh_config);
        Self { url, shell }
    }

    /// The target's URL, whose text is its identity.
    pub fn url(&self) -> &TargetUrl {
        &self.url
    }

    /// The absolute directory of the stack at the target.
    pub fn dir(&self) -> &str {
        self.url.dir()
    }

    /// The name or address under which the target's network endpoint is reached; see [`Shell::network_host`].
    pub fn network_host(&self) -> Result<String, TargetError> {
        self.shell.network_host()
    }

    /// Looks at the target and changes nothing.
    pub fn probe(&self) -> Result<Probe, TargetError> {
        Ok(self.look(None)?.0)
    }

    /// Uploads a release beside what is installed and proves it there: every file by its SHA-256, against a manifest
    /// whose own hash does not come with the upload, then by running `akmd --version` from it.
    ///
    /// A release that is there already and passes the same proof is used again. A damaged one is repaired. Refused
    /// before anything is sent: a directory that holds other files or is not our own, a stack for another architecture, too little
    /// room, missing programs.
    pub fn stage(&self, release: &Release) -> Result<Staged, TargetError> {
        let (probe, held) = self.look(Some(release))?;
        self.admit(&probe, release, held.is_some())?;
        let staged = |version, uploaded| Staged {
            id: release.id().to_owned(),
            manifest_sha256: release.manifest_sha256().to_owned(),
            version,
            uploaded,
        };
        if let Some(version) = held.filter(|_| probe.has_state) {
            return Ok(staged(version, false));
        }
        let archive = release.archive().map_err(|error| self.failed("pack the stack", &error.to_string()))?;
        Ok(staged(self.upload(release, &archive)?, true))
    }

    /// Makes `current` point to a staged release, in one step, after proving its files once more.
    ///
    /// Releases other than this and the one before are removed. What runs goes on running: see [`Target::start`].
    /// Returns the release before, if another.
    pub fn switch(&self, staged: &Staged) -> Result<Option<String>, TargetError> {
        let fields = self.script(
            "switch to the stack",
            SWITCH,
            &[self.dir(), &staged.id, &staged.manifest_sha256],
            &[],
        )?;
        Ok(filled(&fields, "previous"))
    }

    /// Puts the state of a node, a tar archive, into the place of what is there, in one step; a state that has an
    /// identity stays. The stack must not run.
    pub fn deliver_state(&self, archive: &[u8]) -> Result<(), TargetError> {
        self.script("deliver the state", DELIVER, &[self.dir()], archive).map(drop)
    }

    /// Stages a release and switches to it.
    pub fn install(&self, release: &Release) -> Result<InstalledRelease, TargetError> {
        let staged = self.stage(release)?;
        let previous = self.switch(&staged)?;
        Ok(InstalledRelease {
            release: staged.id,
            version: staged.version,
            uploaded: staged.uploaded,
            previous,
        })
    }

    /// Runs the installed `akmd` with `--dir` put after the first argument, the command.
    ///
    /// Its exit code is the caller's to judge. An error means that it did not run at all.
    pub fn akmd(&self, args: &[&str], stdin: &[u8]) -> Result<ProcessOutput, TargetError> {
        self.akmd_if_installed(args, stdin)?
            .ok_or_else(|| TargetError::Absent { target: self.url().to_string(), dir: clean(self.dir()) })
    }

    /// Like [`Target::akmd`]; `None` where there is none.
    pub fn akmd_if_installed(
        &self,
        args: &[&str],
        stdin: &[u8],
    ) -> Result<Option<ProcessOutput>, TargetError> {
        let mut words = vec![self.dir()];
        if let Some((command, rest)) = args.split_first() {
            words.extend([*command, "--dir", self.dir()]);
            words.extend(rest);
        }
        let output = self.shell.run("run akmd", AKMD, &words, stdin)?;
        let absent = matches!(output.complaint(), Some(("absent", _)));
        Ok(Some(output).filter(|_| !absent))
    }

    /// Starts what `current` points to, or starts it again, and returns when it is ready.
    ///
    /// At an `ssh://` target with systemd the release's unit is installed, enabled and restarted; everywhere else the
    /// program puts itself into the background.
    pub fn start(&self) -> Result<Supervision, TargetError> {
        let fields = self.service("start the stack", START)?;
        Ok(filled(&fields, "unit").map_or(Supervision::Background, Supervision::Unit))
    }

    /// Stops the stack; nothing happens if none is installed or running.
    pub fn stop(&self) -> Result<(), TargetError> {
        self.service("stop the stack", STOP).map(drop)
    }

    /// Stops the stack and removes all of it: unit, releases, state; also the directory if it is empty then.
    ///
    /// Returns whether there was anything of ours. A directory that is not ours is left alone.
    pub fn uninstall(&self) -> Result<bool, TargetError> {
        Ok(self.service("remove the stack", UNINSTALL)?.contains_key("removed"))
    }

    /// The probe, and the version of the release if it is there and whole.
    fn look(&self, release: Option<&Release>) -> Result<(Probe, Option<String>), TargetError> {
        let (id, manifest) = release.map_or(("", ""), |release| (release.id(), release.manifest_sha256()));
        let what = "look at what is there";
        let fields = self.script(what, PROBE, &[self.dir(), id, manifest], &[])?;
        let text = |key| filled(&fields, key).unwrap_or_default();
        let dir = match text("dir").as_str() {
            "absent" => DirKind::Absent,
            "empty" => DirKind::Empty,
            "ours" => DirKind::Ours,
            "foreign" => DirKind::Foreign,
            "owned" => DirKind::Owned,
            "blocked" => DirKind::Blocked,
            _ => {
                return Err(
                    self.failed(what, "the answer is not understood; is its login shell a POSIX shell?")
                );
            }
        };
        let probe = Probe {
            system: text("system"),
            machine: text("machine"),
            user_id: text("user").parse().map_err(|_| self.failed(what, "it does not tell its user"))?,
            has_systemd: text("systemd") == "yes",
            dir,
            release: filled(&fields, "release"),
            has_state: text("state") == "yes",
            place: text("place"),
            free_bytes: text("free").parse::<u64>().ok().map(|kib| kib.saturating_mul(1024)),
            missing: text("missing").split_whitespace().map(str::to_owned).collect(),
        };
        let whole = text("held") == "whole";
        Ok((probe, filled(&fields, "version").filter(|_| whole)))
    }

    /// Refuses what cannot end well, before anything is sent. `held`: the release is there already.
    pub fn admit(&self, probe: &Probe, release: &Release, held: bool) -> Result<(), TargetError> {
        let target = self.url.to_string();
        if !release.architecture().may_run_on(&probe.system, &probe.machine) {
            return Err(TargetError::WrongArchitecture {
                target,
                stack: release.architecture().to_string(),
                machine: format!("{} {}", probe.system, probe.machine),
            });
        }
        match probe.dir {
            DirKind::Foreign => return Err(TargetError::Occupied { target, dir: self.dir().to_owned() }),
            DirKind::Owned => return Err(TargetError::Owned { target, dir: self.dir().to_owned() }),
            DirKind::Blocked => {
                let why = "it is not a directory".to_owned();
                return Err(TargetError::Unwritable { target, path: probe.place.clone(), why });
            }
            DirKind::Absent | DirKind::Empty | DirKind::Ours => {}
        }
        if !probe.missing.is_empty() {
            return Err(TargetError::Missing { place: target, programs: probe.missing.join(", ") });
        }
        let needed = release.size() + SPARE_BYTES;
        match probe.free_bytes {
            Some(free) if free < needed && !held => {
                let why = format!(
                    "not enough space: {} KiB are needed, {} KiB are free in {}",
                    needed.div_ceil(1024),
                    free / 1024,
                    probe.place
                );
                Err(TargetError::Unwritable { target, path: self.dir().to_owned(), why })
            }
            _ => Ok(()),
        }
    }

    /// Returns the version that the uploaded program told.
    fn upload(&self, release: &Release, archive: &[u8]) -> Result<String, TargetError> {
        let args = [self.dir(), release.id(), release.manifest_sha256()];
        let what = "upload the stack";
        let fields = self.script(what, STAGE, &args, archive)?;
        filled(&fields, "version").ok_or_else(|| self.failed(what, "it was cut off"))
    }

    fn service(&self, what: &'static str, script: &str) -> Result<Fields, TargetError> {
        let systemd = if self.url.is_local() { "" } else { SYSTEMD_RUNS };
        self.script(what, script, &[self.dir(), &unit_name(self.dir()), systemd, SYSTEMD_UNITS], &[])
    }

    /// Runs a script of ours, and reads the fields it prints.
    fn script(
        &self,
        what: &'static str,
        script: &str,
        args: &[&str],
        stdin: &[u8],
    ) -> Result<Fields, TargetError> {
        let output = self.shell.run(what, script, args, stdin)?;
        if output.code == Some(0) { Ok(fields(&output.stdout)) } else { Err(self.refusal(what, &output)) }
    }

    /// The error that a script of ours ended with.
    fn refusal(&self, what: &str, output: &ProcessOutput) -> TargetError {
        let target = self.url.to_string();
        let said = output.last_lines(1);
        match output.complaint() {
            Some(("occupied", dir)) => TargetError::Occupied { target, dir: clean(dir) },
            Some(("owned", dir)) => TargetError::Owned { target, dir: clean(dir) },
            Some(("blocked", path)) => {
                TargetError::Unwritable { target, path: clean(path), why: "it is not a directory".to_owned() }
            }
            Some(("unwritable", path)) => {
                TargetError::Unwritable { target, path: clean(path), why: obstacle(&said) }
            }
            Some(("upload", path)) if is_obstacle(&output.last_lines(4)) => {
                TargetError::Unwritable { target, path: clean(path), why: obstacle(&output.last_lines(4)) }
            }
            Some(("upload", _)) => self.failed(what, &format!("the upload did not arrive whole: {said}")),
            Some(("damaged", file)) => TargetError::Damaged { target, what: clean(file) },
            Some(("unfit", said)) => self.failed(
                what,
                &format!(
                    "`akmd --version` does not work there ({}); was it built for this system?",
                    clean(said)
                ),
            ),
            Some(("absent", dir)) => TargetError::Absent { target, dir: clean(dir) },
            Some(("failed", command)) => {
                self.failed(what, &format!("`{}`: {}", clean(command), output.last_words()))
            }
            _ => self.failed(what, &output.last_words()),
        }
    }

    fn failed(&self, what: &str, why: &str) -> TargetError {
        TargetError::Failed { target: self.url.to_string(), what: what.to_owned(), why: why.to_owned() }
    }
}

impl Staged {
    /// The release.
    pub fn release(&self) -> &str {
        &self.id
    }

    /// What the program, run from where it was staged, says of itself: `akmd X.Y.Z`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether files were sent; not if the release was there and whole.
    pub fn uploaded(&self) -> bool {
        self.uploaded
    }
}

/// The name of the systemd unit of a stack in this directory: `akmd.service` in the default one.
pub fn unit_name(dir: &str) -> String {
    match dir {
        DEFAULT_DIR => "akmd.service".to_owned(),
        dir => format!("akmd-{}.service", &hex(&Sha256::digest(dir))[..8]),
    }
}

/// The lines `akm:KEY=VALUE`; whatever else a login shell prints is passed over.
pub fn fields(stdout: &[u8]) -> Fields {
    String::from_utf8_lossy(stdout)
        .lines()
        .filter_map(|line| line.strip_prefix("akm:")?.split_once('='))
        .map(|(key, value)| (key.to_owned(), clean(value)))
        .collect()
}

fn filled(fields: &Fields, key: &str) -> Option<String> {
    fields.get(key).filter(|value| !value.is_empty()).cloned()
}

const OBSTACLES: [(&str, &str); 6] = [
    ("No space left on device", "the disk is full; make room"),
    ("Disk quota exceeded", "the quota is used up; make room"),
    ("Read-only file system", "the file system is read-only; choose a directory on a writable one"),
    ("Permission denied", "permission denied; choose a directory of your own or another user"),
    ("Operation not permitted", "not permitted; choose a directory of your own or another user"),
    ("Not a directory", "a part of the path is not a directory"),
];

fn is_obstacle(said: &str) -> bool {
    OBSTACLES.iter().any(|(known, _)| said.contains(known))
}

fn obstacle(said: &str) -> String {
    match OBSTACLES.iter().find(|(known, _)| said.contains(known)) {
        Some((_, plain)) => (*plain).to_owned(),
        None if said.is_empty() => "for a reason it did not tell".to_owned(),
        None => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;
    use crate::Stack;

    struct Device {
        place: TempDir,
        target: Target,
    }

    impl Device {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let target = Target::new(format!("local:{}/node", place.path().display()).parse().unwrap(), None);
            Self { place, target }
        }

        fn release(&self, version: &str) -> Release {
            let akmd = self.place.path().join("akmd");
            fs::write(&akmd, format!("#!/bin/sh\necho akmd {version}\n")).unwrap();
            Stack::load(&akmd).unwrap().release("listen = \"127.0.0.1:1\"\n", self.target.dir())
        }

        fn releases(&self) -> Vec<String> {
            let entries = fs::read_dir(format!("{}/releases", self.target.dir())).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn current(&self) -> String {
            fs::read_link(format!("{}/current", self.target.dir())).unwrap().to_str().unwrap().to_owned()
        }
    }

    #[test]
    fn an_upload_cut_off_anywhere_changes_nothing() {
        let device = Device::new();
        let first = device.release("1.0.0");
        device.target.install(&first).unwrap();
        let second = device.release("2.0.0");
        let archive = second.archive().unwrap();
        let last_file_ends = archive.len() - 1024 - 512;
        for cut in [0, 1, 511, 512, 600, 1024, archive.len() / 2, last_file_ends] {
            device.target.upload(&second, &archive[..cut]).expect_err("cut off");
            assert_eq!(device.current(), format!("releases/{}", first.id()), "cut at {cut}");
            assert_eq!(device.releases(), [first.id()], "nothing is left of the upload cut at {cut}");
        }
        assert_eq!(device.target.install(&second).unwrap().previous.as_deref(), Some(first.id()));
    }

    /// A directory of another user that holds nothing, as he may have made it before us.
    fn directory_of_another(place: &Path) -> PathBuf {
        let made = place.join("taken");
        fs::create_dir(&made).unwrap();
        if std::os::unix::fs::chown(&made, Some(65_534), None).is_ok() {
            return made;
        }
        // Only root can give it away. To everybody else these are of another user.
        let is_empty = |dir: &PathBuf| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
        let usual = ["/srv", "/mnt", "/media", "/opt", "/boot", "/home"].map(PathBuf::from);
        usual.into_iter().find(is_empty).expect("run as root, or have an empty /srv or /mnt")
    }

    #[test]
    fn a_directory_of_another_user_gets_no_stack() {
        let device = Device::new();
        let release = device.release("1.0.0");
        let taken = directory_of_another(device.place.path());
        let target = Target::new(format!("local:{}", taken.display()).parse().unwrap(), None);
        assert_eq!(target.probe().unwrap().dir, DirKind::Owned);
        for refused in [target.install(&release).map(drop), target.uninstall().map(drop)] {
            let Err(TargetError::Owned { dir, .. }) = &refused else { panic!("{refused:?}") };
            assert_eq!(*dir, taken.display().to_string());
        }
        let archive = release.archive().unwrap();
        assert!(matches!(target.upload(&release, &archive), Err(TargetError::Owned { .. })));
        assert_eq!(fs::read_dir(&taken).unwrap().count(), 0);
    }

    #[test]
    fn an_upload_that_differs_from_the_manifest_is_refused() {
        let device = Device::new();
        let (good, other) = (device.release("1.0.0"), device.release("1.0.1"));
        let whole = good.archive().unwrap();
        let damaged = |archive: &[u8]| match device.target.upload(&good, archive) {
            Err(TargetError::Damaged { what, .. }) => what,
            result => panic!("{result:?}"),
        };

        assert_eq!(damaged(&other.archive().unwrap()), "manifest", "another release with its own manifest");

        let mut bent = whole.clone();
        let at = bent.windows(5).position(|part| part == b"1.0.0").unwrap();
        bent[at] = b'9';
        assert_eq!(damaged(&bent), "akmd");

        let mut more = tar::Builder::new(whole[..whole.len() - 1024].to_vec());
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(1);
        more.append_data(&mut header, ".profile", &b"x"[..]).unwrap();
        assert_eq!(damaged(&more.into_inner().unwrap()), ".profile");

        let mut link = tar::Builder::new(whole[..whole.len() - 1024].to_vec());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        link.append_link(&mut header, "akmd.toml", "/dev/null").unwrap();
        assert_eq!(damaged(&link.into_inner().unwrap()), "akmd.toml");

        assert!(device.releases().is_empty());
        assert!(!Path::new(device.target.dir()).join("current").exists());
    }

    #[test]
    fn what_is_staged_is_proved_again_before_the_switch() {
        let device = Device::new();
        let staged = device.target.stage(&device.release("1.0.0")).unwrap();
        fs::write(format!("{}/releases/{}/akmd", device.target.dir(), staged.release()), "#!/bin/sh\n")
            .unwrap();
        let error = device.target.switch(&staged).unwrap_err();
        assert!(matches!(&error, TargetError::Damaged { what, .. } if what == "akmd"), "{error}");
        assert!(!Path::new(device.target.dir()).join("current").exists());
    }

    #[test]
    fn full_read_only_and_forbidden_places_are_told_with_their_path() {
        let target = Device::new().target;
        for (said, kind, plain) in [
            (
                "mkdir: cannot create directory '/opt/akm': Permission denied",
                "unwritable:/opt/akm",
                "permission denied",
            ),
            (
                "mkdir: can't create directory '/opt/akm': Read-only file system",
                "unwritable:/opt/akm",
                "read-only",
            ),
            (
                "tar: akmd: Wrote only 512 of 10240 bytes\ntar: akmd: Cannot write: No space left on device\ntar: Exiting with failure status due to previous errors",
                "upload:/opt/akm",
                "disk is full",
            ),
            (
                "mv: cannot overwrite directory 'a' with non-directory",
                "unwritable:/opt/akm",
                "cannot overwrite",
            ),
            ("", "unwritable:/opt/akm", "did not tell"),
        ] {
            let stderr = format!("{said}\nakm-error:{kind}\n").into_bytes();
            let error = target.refusal("try", &ProcessOutput { code: Some(121), stdout: vec![], stderr });
            let text = error.to_string();
            assert!(matches!(error, TargetError::Unwritable { .. }), "{text}");
            assert!(text.starts_with("cannot write /opt/akm at local:") && text.contains(plain), "{text}");
        }
    }

    #[test]
    fn too_little_room_is_refused_before_the_upload() {
        let device = Device::new();
        let release = device.release("1.0.0");
        let mut probe = device.target.probe().unwrap();
        probe.free_bytes = Some(1024);
        let text = device.target.admit(&probe, &release, false).unwrap_err().to_string();
        assert!(text.contains("not enough space") && text.contains("1 KiB are free"), "{text}");
        device.target.admit(&probe, &release, true).unwrap();
        probe.free_bytes = None;
        device.target.admit(&probe, &release, false).unwrap();
        probe.missing = vec!["tar".to_owned()];
        let text = device.target.admit(&probe, &release, false).unwrap_err().to_string();
        assert!(text.starts_with("tar not found on local:"), "{text}");
    }

    #[test]
    fn the_unit_of_the_default_directory_has_the_plain_name() {
        assert_eq!(unit_name("/opt/akm"), "akmd.service");
        let other = unit_name("/srv/akm");
        assert!(other.starts_with("akmd-") && other.len() == "akmd-01234567.service".len());
        assert_ne!(other, unit_name("/srv/akm2"));
    }

    /// Runs a script where one program only writes down how it was called. Returns the first argument of the script
    /// after the directory: where that program is.
    fn with_stand_in(
        device: &Device,
        program: &str,
        fails: &str,
        script: &str,
        arguments: &[&Path],
        stdin: &Path,
    ) -> (ProcessOutput, String) {
        let bin = bin_of(device);
        let log = device.place.path().join("log");
        fs::create_dir_all(&bin).unwrap();
        fs::write(&log, "").unwrap();
        let program = bin.join(program);
        let body =
            format!("#!/bin/sh\necho \"$*\" >>'{}'\ncase $* in {fails}) exit 1 ;; esac\n", log.display());
        fs::write(&program, body).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new("sh")
            .args(["-c", script, "akm", device.target.dir()])
            .args(arguments)
            .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
            .stdin(fs::File::open(stdin).unwrap())
            .output()
            .unwrap();
        let output =
            ProcessOutput { code: output.status.code(), stdout: output.stdout, stderr: output.stderr };
        (output, fs::read_to_string(log).unwrap())
    }

    fn bin_of(device: &Device) -> std::path::PathBuf {
        device.place.path().join("bin")
    }

    /// Runs a service script where `systemctl` only writes down how it was called.
    fn with_systemctl(device: &Device, script: &str, fails: &str) -> (ProcessOutput, String) {
        let units = device.place.path().join("units");
        fs::create_dir_all(&units).unwrap();
        let unit = unit_name(device.target.dir());
        let arguments = [Path::new(&unit), &bin_of(device), &units];
        with_stand_in(device, "systemctl", fails, script, &arguments, Path::new("/dev/null"))
    }

    #[test]
    fn a_state_that_arrives_stays_and_is_durable_also_where_it_arrived_before() {
        let device = Device::new();
        device.target.install(&device.release("1.0.0")).unwrap();
        let archive = |identity: &str| {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o600);
            header.set_size(identity.len() as u64);
            archive.append_data(&mut header, "identity", identity.as_bytes()).unwrap();
            let path = device.place.path().join("archive");
            fs::write(&path, archive.into_inner().unwrap()).unwrap();
            path
        };
        let dir = device.target.dir();
        // The one that sent it may have been cut off before it was durable, and sends it again.
        for (identity, synced) in
            [("first", &[&format!("{dir}/run/.arriving/identity"), "", dir][..]), ("second", &[dir])]
        {
            let (output, log) = with_stand_in(&device, "sync", "none", DELIVER, &[], &archive(identity));
            assert_eq!(output.code, Some(0), "{}", output.last_lines(3));
            assert_eq!(log.lines().collect::<Vec<_>>(), synced, "{identity}");
            assert_eq!(fs::read_to_string(format!("{dir}/state/identity")).unwrap(), "first");
        }
    }

    #[test]
    fn with_systemd_the_unit_is_installed_enabled_and_restarted_and_goes_again() {
        let device = Device::new();
        device.target.install(&device.release("1.0.0")).unwrap();
        let unit = unit_name(device.target.dir());
        let (output, log) = with_systemctl(&device, START, "none");
        assert_eq!(output.code, Some(0), "{}", output.last_lines(3));
        assert_eq!(filled(&fields(&output.stdout), "unit"), Some(unit.clone()));
        assert_eq!(
            log,
            format!(
                "daemon-reload\nis-active --quiet {unit}\nenable {unit}\nrestart {unit}\nis-active --quiet {unit}\n"
            )
        );
        let installed = device.place.path().join("units").join(&unit);
        let text = fs::read_to_string(&installed).unwrap();
        assert!(text.contains(&format!("run --dir {}", device.target.dir())));

        let (output, log) = with_systemctl(&device, STOP, "none");
        assert_eq!((output.code, log), (Some(0), format!("stop {unit}\n")));

        let (output, log) = with_systemctl(&device, UNINSTALL, "none");
        assert_eq!(output.code, Some(0));
        assert_eq!(log, format!("stop {unit}\ndisable {unit}\ndaemon-reload\n"));
        assert!(!installed.exists() && !Path::new(device.target.dir()).exists());
    }

    #[test]
    fn a_unit_that_does_not_start_is_an_error_and_is_not_left_restarting() {
        let device = Device::new();
        device.target.install(&device.release("1.0.0")).unwrap();
        let (output, log) = with_systemctl(&device, START, "restart*");
        let error = device.target.refusal("start the stack", &output).to_string();
        assert!(error.contains("`systemctl restart akmd-"), "{error}");
        assert!(log.ends_with(&format!("stop {}\n", unit_name(device.target.dir()))), "{log}");
    }

    #[test]
    fn a_link_that_is_ours_but_leads_nowhere_is_replaced() {
        let device = Device::new();
        fs::create_dir(device.target.dir()).unwrap();
        symlink("releases/0123456789abcdef", format!("{}/current", device.target.dir())).unwrap();
        let release = device.release("1.0.0");
        let installed = device.target.install(&release).unwrap();
        assert_eq!(installed.previous.as_deref(), Some("0123456789abcdef"));
        assert_eq!(device.current(), format!("releases/{}", release.id()));
    }
}
