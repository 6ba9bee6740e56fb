//! The program that is installed on a target, and the files of a release made from it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

const UNIT: &str = include_str!("scripts/akmd.service");

/// The program `akmd`, read and looked at, for one or many targets.
#[derive(Clone)]
pub struct Stack {
    program: Arc<[u8]>,
    architecture: Architecture,
}

/// What a program needs of the machine that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// A script: any machine.
    Any,
    /// A program of the Executable and Linkable Format (ELF).
    Elf {
        /// The machine's number in the header (`e_machine`).
        machine: u16,
        /// Whether it is a 64-bit program.
        wide: bool,
        /// Whether the least significant byte comes first.
        little_endian: bool,
    },
}

/// Why a file cannot be installed as the stack.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The file cannot be read.
    #[error("cannot read the stack {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not a program.
    #[error("{} is not a program for Linux", path.display())]
    NotAProgram {
        /// The file.
        path: PathBuf,
    },
}

/// The files that are installed together for one directory, and the name they have as a whole.
#[derive(Clone)]
pub struct Release {
    id: String,
    architecture: Architecture,
    manifest_sha256: String,
    contents: Vec<Arc<[u8]>>,
    files: Vec<StackFile>,
}

/// A file of a release, as the integrity code counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackFile {
    /// The path relative to the release.
    pub path: &'static str,
    /// The permission bits.
    pub mode: u32,
    /// The SHA-256 of its content.
    pub sha256: [u8; 32],
}

impl Stack {
    /// Reads the program and its header.
    ///
    /// A script (`#!`) is taken as well and said to run anywhere.
    pub fn load(akmd: &Path) -> Result<Self, StackError> {
        let program =
            std::fs::read(akmd).map_err(|source| StackError::Unreadable { path: akmd.to_owned(), source })?;
        let architecture =
            Architecture::parse(&program).ok_or_else(|| StackError::NotAProgram { path: akmd.to_owned() })?;
        Ok(Self { program: program.into(), architecture })
    }

    /// What the program needs.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Makes the four files of a release for a target whose directory is `dir`, an absolute path.
    ///
    /// The same program, configuration and directory give the same release.
    pub fn release(&self, config_toml: &str, dir: &str) -> Release {
        let unit = render_unit(dir);
        let mut entries: Vec<(&'static str, u32, Arc<[u8]>)> = vec![
            ("akmd", 0o755, self.program.clone()),
            ("akmd.service", 0o644, unit.into_bytes().into()),
            ("akmd.toml", 0o644, config_toml.as_bytes().into()),
        ];
        let manifest: String = entries
            .iter()
            .map(|(path, mode, content)| format!("{} {mode:04o} {path}\n", hex(&Sha256::digest(content))))
            .collect();
        let manifest_sha256 = hex(&Sha256::digest(&manifest));
        entries.push(("manifest", 0o644, manifest.into_bytes().into()));
        entries.sort_by_key(|(path, ..)| *path);
        let file = |(path, mode, content): &(&'static str, u32, Arc<[u8]>)| StackFile {
            path,
            mode: *mode,
            sha256: Sha256::digest(content).into(),
        };
        Release {
            id: manifest_sha256[..16].to_owned(),
            architecture: self.architecture,
            manifest_sha256,
            files: entries.iter().map(file).collect(),
            contents: entries.into_iter().map(|(.., content)| content).collect(),
        }
    }
}

impl Release {
    /// The first 16 hexadecimal digits of the SHA-256 of the manifest.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The SHA-256 of the manifest as 64 hexadecimal digits.
    pub fn manifest_sha256(&self) -> &str {
        &self.manifest_sha256
    }

    /// All four files, sorted by path.
    pub fn files(&self) -> &[StackFile] {
        &self.files
    }

    /// What the program needs.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The bytes of all files together.
    pub fn size(&self) -> u64 {
        self.contents.iter().map(|content| content.len() as u64).sum()
    }

    /// The files as a tar archive, owned by root.
    pub fn archive(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::with_capacity(self.size() as usize + 8192));
        for (file, content) in self.files.iter().zip(&self.contents) {
            let mut header = tar::Header::new_ustar();
            header.set_mode(file.mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, file.path, &content[..])?;
        }
        archive.into_inner()
    }
}

impl Architecture {
    /// The architecture of a program, or `None` if this is none.
    pub fn parse(program: &[u8]) -> Option<Self> {
        if program.starts_with(b"#!") {
            return Some(Self::Any);
        }
        let header = program.get(..20).filter(|header| header.starts_with(b"\x7fELF"))?;
        let wide = match header[4] {
            1 => false,
            2 => true,
            _ => return None,
        };
        let little_endian = match header[5] {
            1 => true,
            2 => false,
            _ => return None,
        };
        let half = |at: usize| {
            let bytes = [header[at], header[at + 1]];
            if little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
        };
        let (executable, shared) = (2, 3);
        let kind = half(16);
        (kind == executable || kind == shared).then(|| Self::Elf { machine: half(18), wide, little_endian })
    }

    /// Whether a machine with this `uname -s` and `uname -m` may be able to run it.
    ///
    /// The last word has the program itself, when its version is asked for at the target. A program for a machine
    /// that is not in our table is left to that.
    pub fn may_run_on(&self, system: &str, uname: &str) -> bool {
        let Self::Elf { .. } = self else { return true };
        if system != "Linux" {
            return false;
        }
        let Some((_, accepted)) = self.names() else { return true };
        accepted.iter().any(|known| {
            *known == uname || known.strip_suffix('*').is_some_and(|start| uname.starts_with(start))
        })
    }

    /// The name, and the values of `uname -m` of machines that run it. A 64-bit kernel may run 32-bit programs.
    fn names(&self) -> Option<(&'static str, &'static [&'static str])> {
        let Self::Elf { machine, wide, little_endian } = *self else { return None };
        Some(match (machine, wide, little_endian) {
            (62, true, true) => ("x86_64", &["x86_64", "amd64"]),
            (3, false, true) => ("i386", &["i386", "i486", "i586", "i686", "x86_64", "amd64"]),
            (183, true, true) => ("aarch64", &["aarch64", "arm64"]),
            (183, true, false) => ("aarch64_be", &["aarch64_be"]),
            (40, false, true) => ("arm", &["arm", "armv*", "aarch64", "arm64"]),
            (243, true, true) => ("riscv64", &["riscv64"]),
            (243, false, true) => ("riscv32", &["riscv32", "riscv64"]),
            (21, true, true) => ("ppc64le", &["ppc64le"]),
            (21, true, false) => ("ppc64", &["ppc64"]),
            (20, false, false) => ("ppc", &["ppc", "ppc64"]),
            (22, true, false) => ("s390x", &["s390x"]),
            (8, true, _) => ("mips64", &["mips64"]),
            (8, false, _) => ("mips", &["mips", "mips64"]),
            (258, true, true) => ("loongarch64", &["loongarch64"]),
            _ => return None,
        })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.names()) {
            (Self::Any, _) => f.write_str("any machine"),
            (_, Some((name, _))) => write!(f, "Linux {name}"),
            (Self::Elf { machine, .. }, None) => write!(f, "a machine with the ELF number {machine}"),
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("architecture", &self.architecture).finish_non_exhaustive()
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Release").field("id", &self.id).field("files", &self.files).finish_non_exhaustive()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn render_unit(dir: &str) -> String {
    // A private /tmp would hide a stack that lives there.
    let hidden = ["/tmp", "/var/tmp"].iter().any(|tmp| Path::new(dir).starts_with(tmp));
    let writable = format!("{} {}", quoted(&format!("{dir}/state")), quoted(&format!("{dir}/run")));
    UNIT.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            line.replace("@PRIVATE_TMP@", if hidden { "no" } else { "yes" })
                .replace("@START@", &start_command(dir))
                .replace("@WRITABLE@", &writable)
                + "\n"
        })
        .collect()
}

fn start_command(dir: &str) -> String {
    let command = format!("{} run --dir {}", quoted(&format!("{dir}/current/akmd")), quoted(dir));
    // `:` forbids systemd to replace `$NAME`; old versions do not know it, so only where needed. And systemd takes no
    // quote or backslash in the name of a program, only in what a program is given.
    if dir.contains(['"', '\'', '\\']) {
        format!(r#":/bin/sh -c "exec \"$0\" \"$@\"" {command}"#)
    } else if dir.contains('$') {
        format!(":{command}")
    } else {
        command
    }
}

/// A word of a unit file: bare where it can be, else in quotes, `%` doubled.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@,=$%".contains(c);
    let word_is_plain = word.chars().all(plain);
    let escaped = word.replace('%', "%%");
    if word_is_plain {
        escaped
    } else {
        format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16, class: u8, data: u8, kind: u16) -> Vec<u8> {
        let half = |value: u16| if data == 2 { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut header = b"\x7fELF".to_vec();
        header.extend([class, data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        header.extend(half(kind));
        header.extend(half(machine));
        header.extend([0; 44]);
        header
    }

    fn script() -> Stack {
        Stack { program: b"#!/bin/sh\n".as_slice().into(), architecture: Architecture::Any }
    }

    #[test]
    fn a_machine_runs_what_is_built_for_it_and_nothing_else() {
        let known = [
            (62, 2, 1, "x86_64", "x86_64"),
            (183, 2, 1, "aarch64", "aarch64"),
            (40, 1, 1, "arm", "armv7l"),
            (40, 1, 1, "arm", "armv6l"),
            (3, 1, 1, "i386", "i686"),
            (243, 2, 1, "riscv64", "riscv64"),
            (21, 2, 1, "ppc64le", "ppc64le"),
            (22, 2, 2, "s390x", "s390x"),
        ];
        for (machine, class, data, name, uname) in known {
            let architecture = Architecture::parse(&elf(machine, class, data, 3)).unwrap();
            assert_eq!(architecture.to_string(), format!("Linux {name}"));
            assert!(architecture.may_run_on("Linux", uname));
            assert!(!architecture.may_run_on("Darwin", uname));
            for (.., other, other_uname) in known.iter().filter(|(.., other, _)| *other != name) {
                let runs = architecture.may_run_on("Linux", other_uname);
                let by_compatibility = [("i386", "x86_64"), ("arm", "aarch64")].contains(&(name, other));
                assert_eq!(runs, by_compatibility, "{name} on {other_uname}");
            }
        }
    }

    #[test]
    fn a_machine_outside_the_table_is_left_to_the_program_itself() {
        let architecture = Architecture::parse(&elf(0x1234, 2, 1, 2)).unwrap();
        assert!(architecture.may_run_on("Linux", "x86_64"));
        assert!(architecture.to_string().contains("4660"));
        assert!(Architecture::Any.may_run_on("FreeBSD", "pdp11"));
    }

    #[test]
    fn only_programs_are_taken() {
        let whole = elf(62, 2, 1, 2);
        for (bytes, what) in [
            (Vec::new(), "empty"),
            (b"hello, this is not a program".to_vec(), "text"),
            (whole[..19].to_vec(), "cut off"),
            (elf(62, 3, 1, 2), "class"),
            (elf(62, 2, 3, 2), "byte order"),
            (elf(62, 2, 1, 1), "object file"),
            (elf(62, 2, 1, 4), "core dump"),
        ] {
            assert_eq!(Architecture::parse(&bytes), None, "{what}");
        }
        let place = tempfile::tempdir().unwrap();
        let error = Stack::load(place.path()).unwrap_err();
        assert!(matches!(error, StackError::Unreadable { .. }), "{error}");
        let text = place.path().join("text");
        std::fs::write(&text, "hello").unwrap();
        let error = Stack::load(&text).unwrap_err();
        assert!(matches!(error, StackError::NotAProgram { .. }), "{error}");
    }

    #[test]
    fn this_very_program_runs_here() {
        let stack = Stack::load(&std::env::current_exe().unwrap()).unwrap();
        assert!(stack.architecture().may_run_on("Linux", std::env::consts::ARCH));
    }

    #[test]
    fn a_release_is_named_by_its_manifest() {
        let release = script().release("listen = \"x\"\n", "/opt/akm");
        let paths: Vec<_> = release.files().iter().map(|file| (file.path, file.mode)).collect();
        assert_eq!(
            paths,
            [("akmd", 0o755), ("akmd.service", 0o644), ("akmd.toml", 0o644), ("manifest", 0o644)]
        );
        let manifest = std::str::from_utf8(&release.contents[3]).unwrap();
        let lines: Vec<_> = manifest.lines().collect();
        assert_eq!(lines[0], format!("{} 0755 akmd", hex(&Sha256::digest("#!/bin/sh\n"))));
        assert_eq!(lines[2], format!("{} 0644 akmd.toml", hex(&release.files()[2].sha256)));
        assert_eq!(lines.len(), 3);
        assert_eq!(release.id(), &hex(&release.files()[3].sha256)[..16]);
        assert_eq!(release.manifest_sha256(), hex(&release.files()[3].sha256));
        assert_eq!(script().release("listen = \"x\"\n", "/opt/akm").id(), release.id());
        assert_ne!(script().release("listen = \"y\"\n", "/opt/akm").id(), release.id());
        assert_ne!(script().release("listen = \"x\"\n", "/opt/akm2").id(), release.id());
    }

    #[test]
    fn the_archive_holds_the_files_as_they_are() {
        let release = script().release("c", "/opt/akm");
        let archive = release.archive().unwrap();
        let mut archive = tar::Archive::new(&archive[..]);
        for ((entry, file), content) in archive.entries().unwrap().zip(release.files()).zip(&release.contents)
        {
            let mut entry = entry.unwrap();
            assert_eq!(entry.path().unwrap().to_str(), Some(file.path));
            assert_eq!(entry.header().mode().unwrap(), file.mode);
            let mut found = Vec::new();
            io::Read::read_to_end(&mut entry, &mut found).unwrap();
            assert_eq!(found, content[..]);
        }
    }

    #[test]
    fn the_unit_names_its_directory() {
        let unit = render_unit("/opt/akm");
        for line in [
            "ExecStart=/opt/akm/current/akmd run --dir /opt/akm",
            "ReadWritePaths=/opt/akm/state /opt/akm/run",
            "PrivateTmp=yes",
            "Type=notify",
            "LimitCORE=0",
            "LimitMEMLOCK=infinity",
            "WantedBy=multi-user.target",
        ] {
            assert!(unit.lines().any(|l| l == line), "{line} in\n{unit}");
        }
        let unfilled = ["START", "WRITABLE", "PRIVATE_TMP"].map(|name| format!("@{name}@"));
        assert!(!unfilled.iter().any(|name| unit.contains(name)), "{unit}");
        let unit = render_unit("/tmp/a b%e$f");
        let start = r#"ExecStart=:"/tmp/a b%%e$f/current/akmd" run --dir "/tmp/a b%%e$f""#;
        assert!(unit.lines().any(|line| line == start), "{unit}");
        assert!(unit.contains("PrivateTmp=no\n"));
        let unit = render_unit(r#"/srv/a"b\c"#);
        let start = r#"ExecStart=:/bin/sh -c "exec \"$0\" \"$@\"" "/srv/a\"b\\c/current/akmd" run --dir "/srv/a\"b\\c""#;
        assert!(unit.lines().any(|line| line == start), "{unit}");
    }

    #[test]
    fn debug_does_not_print_the_configuration() {
        let release = script().release("hush", "/x");
        assert!(!format!("{release:?} {:?}", script()).contains("hush"));
    }
}
