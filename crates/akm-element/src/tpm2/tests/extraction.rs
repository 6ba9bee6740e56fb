//! With all means of root on the host: the state file, every authorisation in it, each wrapped root that came
//! by, and the TPM for itself.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};

use super::*;
use crate::tpm2::crypto::Point;
use crate::tpm2::session::{After, Auth, Command, Session};
use crate::tpm2::template::{ALG_AES, ALG_CFB, ALG_NULL, Name};
use crate::tpm2::wire::{Reader, Writer};

const KEY: [u8; 32] = *b"a root that nobody shall see ...";
const NULL: u32 = 0x4000_0007;

const fn command(code: u32, name: &'static str) -> Command {
    Command { code, name, encrypts: false, decrypts: false, opens: false }
}

const CREATE_PRIMARY: Command = Command { opens: true, ..command(0x131, "CreatePrimary") };
const DUPLICATE: Command = command(0x14b, "Duplicate");
const OBJECT_CHANGE_AUTH: Command = command(0x150, "ObjectChangeAuth");
const REWRAP: Command = command(0x152, "Rewrap");
const HMAC: Command = command(0x155, "HMAC");
const IMPORT: Command = command(0x156, "Import");
const LOAD: Command = Command { opens: true, ..command(0x157, "Load") };
const HMAC_START: Command = Command { opens: true, ..command(0x15b, "HMAC_Start") };
const SIGN: Command = command(0x15d, "Sign");
const UNSEAL: Command = command(0x15e, "Unseal");
const LOAD_EXTERNAL: Command = Command { opens: true, ..command(0x167, "LoadExternal") };
const POLICY_AUTH_VALUE: Command = command(0x16b, "PolicyAuthValue");
const POLICY_COMMAND_CODE: Command = command(0x16c, "PolicyCommandCode");
const POLICY_OR: Command = command(0x171, "PolicyOR");
const POLICY_DUPLICATION_SELECT: Command = command(0x188, "PolicyDuplicationSelect");
const POLICY_PASSWORD: Command = command(0x18c, "PolicyPassword");

/// A step of a policy.
#[derive(Clone, Copy, Debug)]
enum Step {
    AuthValue,
    Password,
    Code(u32),
    /// Whichever use of the storage key was said before.
    UseOfStorage,
    DuplicationSelect,
}

/// A key of the attacker's, whose private part he knows, as a TPM takes it.
fn own_key() -> (Vec<u8>, EccKey) {
    let key = PrivateKey::generate(&ECDH_P256).unwrap();
    let public = key.compute_public_key().unwrap();
    let point =
        Point { x: public.as_ref()[1..33].try_into().unwrap(), y: public.as_ref()[33..].try_into().unwrap() };
    storage_like(&point)
}

/// The public area of an ordinary storage key: to be used with the empty password, not bound to a TPM.
fn storage_like(point: &Point) -> (Vec<u8>, EccKey) {
    let mut public = Writer::new();
    public.u16(0x23).u16(0x0b).u32(0x0003_0040).sized(&[]);
    public.u16(ALG_AES).u16(128).u16(ALG_CFB).u16(ALG_NULL).u16(3).u16(ALG_NULL);
    public.sized(&point.x).sized(&point.y);
    let public = public.into_public();
    (public.clone(), EccKey { name: Name::of(&public), public, point: *point })
}

fn load_external(tpm: &mut Tpm, public: &[u8]) -> Result<Handle, Failure> {
    let mut parameters = Writer::new();
    parameters.sized(&[]).sized(public).u32(NULL);
    let answer = tpm.execute(&LOAD_EXTERNAL, &[], &mut [], parameters)?;
    Ok(Handle::named(answer.handle, Name::of(public)))
}

/// Another primary of the owner, an ordinary storage key.
fn other_parent(tpm: &mut Tpm) -> Result<(Handle, EccKey), Failure> {
    let mut public = Writer::new();
    public.u16(0x23).u16(0x0b).u32(0x0003_0472).sized(&[]);
    public.u16(ALG_AES).u16(128).u16(ALG_CFB).u16(ALG_NULL).u16(3).u16(ALG_NULL).sized(&[]).sized(&[]);
    let mut parameters = Writer::new();
    parameters.u16(4).sized(&[]).sized(&[]).sized(public.as_slice()).sized(&[]).u32(0);
    let owner = [Handle::plain(command::OWNER)];
    let answer = tpm.execute(&CREATE_PRIMARY, &owner, &mut [Auth::Empty], parameters)?;
    let public = Reader::new(&answer.parameters).sized()?.to_vec();
    let (x, y) = public[public.len() - 68..].split_at(34);
    let point = Point { x: x[2..].try_into().unwrap(), y: y[2..].try_into().unwrap() };
    let name = Name::of(&public);
    Ok((Handle::named(answer.handle, name), EccKey { public, name, point }))
}

fn policy(tpm: &mut Tpm, state: &State, steps: &[Step], object: Name) -> Result<Session, Failure> {
    let session = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
    let handle = [Handle::plain(session.handle)];
    for step in steps {
        let mut parameters = Writer::new();
        let command = match step {
            Step::AuthValue => &POLICY_AUTH_VALUE,
            Step::Password => &POLICY_PASSWORD,
            Step::Code(code) => {
                parameters.u32(*code);
                &POLICY_COMMAND_CODE
            }
            Step::UseOfStorage => {
                let uses = template::uses_of_storage();
                parameters.u32(uses.len() as u32);
                for digest in &uses {
                    parameters.sized(digest);
                }
                &POLICY_OR
            }
            Step::DuplicationSelect => {
                parameters.sized(&object.0).sized(&state.storage.name.0).u8(1);
                &POLICY_DUPLICATION_SELECT
            }
        };
        tpm.execute(command, &handle, &mut [], parameters)?;
    }
    Ok(session)
}

/// Asks with the plain password in a frame made by hand.
fn with_password(
    tpm: &mut Tpm,
    command: &Command,
    handles: &[Handle],
    password: &[u8],
    parameters: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut frame = Writer::new();
    frame.u16(0x8002).u32(0).u32(command.code);
    for handle in handles {
        frame.u32(handle.number);
    }
    frame.u32(9 + password.len() as u32).u32(0x4000_0009).sized(&[]).u8(0).sized(password);
    frame.bytes(parameters);
    let length = frame.as_slice().len() as u32;
    frame.as_mut_slice()[2..6].copy_from_slice(&length.to_be_bytes());
    let answer = tpm.transport.as_mut().unwrap().exchange(frame.as_slice())?;
    match u32::from_be_bytes(answer[6..10].try_into().unwrap()) {
        0 => Ok(answer),
        code => Err(Failure::Code { command: command.name, code }),
    }
}

/// Tries a command on a handle with every kind of session, and returns how often it was done.
fn every_session(
    tpm: &mut Tpm,
    state: &State,
    command: &Command,
    handles: &[Handle],
    object: (Name, Option<&Secret<32>>),
    parameters: &[u8],
) -> usize {
    let mut done = 0;
    let mut count = |tpm: &mut Tpm, tried: Result<(), Failure>| {
        match tried {
            Ok(()) => done += 1,
            Err(Failure::Code { .. }) => {}
            Err(other) => panic!("{}: {other:?}", command.name),
        }
        for session in tpm.open.clone().into_iter().filter(|open| open >> 24 != 0x80) {
            tpm.flush(session).unwrap();
        }
    };
    let password = object.1.map_or(&[][..], |authorisation| authorisation.expose());
    for password in [password, &[]] {
        let tried = with_password(tpm, command, handles, password, parameters).map(drop);
        count(tpm, tried);
    }
    let code = Step::Code(command.code);
    let policies: [&[Step]; 12] = [
        &[],
        &[code],
        &[Step::AuthValue],
        &[Step::AuthValue, code],
        &[code, Step::AuthValue],
        &[Step::AuthValue, Step::Code(HMAC.code)],
        &[Step::Password, Step::Code(HMAC.code)],
        &[Step::Password, code],
        &[Step::DuplicationSelect],
        &[Step::Code(LOAD.code), Step::UseOfStorage],
        &[Step::Code(IMPORT.code), Step::UseOfStorage],
        &[Step::DuplicationSelect, Step::AuthValue, code],
    ];
    for steps in policies.into_iter().map(Some).chain([None]) {
        for authorisation in [object.1, None] {
            let session = match steps {
                Some(steps) => policy(tpm, state, steps, object.0),
                None => tpm.start_session(STORAGE_HANDLE, &state.storage),
            };
            let tried = session.and_then(|mut session| {
                let mut writer = Writer::new();
                writer.bytes(parameters);
                let auths = &mut [Auth::Session(&mut session, authorisation, After::Ends)];
                tpm.execute(command, handles, auths, writer).map(drop)
            });
            count(tpm, tried);
        }
    }
    done
}

/// A node with a root, its state as root reads it, and the wrapped root as it came by.
fn attacked() -> (Home, State, Vec<u8>) {
    let home = Home::new();
    let mut element = home.create();
    element.make_device_key().unwrap();
    let wrapped = wrapped_for(&mut element, relationship(1), KEY);
    element.install(relationship(1), &wrapped).unwrap();
    drop(element);
    let state = State::parse(&home.file()).unwrap();
    (home, state, wrapped)
}

/// Works in the TPM as nobody of AKM's.
fn attack<T>(home: &Home, work: impl FnOnce(&mut Tpm) -> Result<T, Failure>) -> T {
    Tpm::new(Box::new(home.place())).run(|_| Ok(()), work).unwrap()
}

fn loaded(tpm: &mut Tpm, state: &State, root: Root) -> Result<Handle, Failure> {
    let held = &state.roots[&root];
    let mut session = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
    let key = tpm.load(storage_handle(&state.storage), &mut session, &held.private, &held.public)?;
    tpm.flush(session.handle)?;
    Ok(key)
}

/// The inner key of a wrapped root: root on the host may ask for it as AKM does.
fn inner_key(tpm: &mut Tpm, state: &State, wrapped: &Wrapped) -> Result<Vec<u8>, Failure> {
    let mut session = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
    let (number, endorsement) = tpm.create_primary(EccRole::Endorsement)?;
    let mut policy = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
    tpm.policy_of_endorsement(&policy)?;
    let key = tpm.activate_credential(
        (storage_handle(&state.storage), &mut session),
        (Handle::named(number, endorsement.name), &mut policy),
        &wrapped.credential,
        &wrapped.credential_secret,
    )?;
    tpm.flush(number)?;
    tpm.flush(session.handle)?;
    Ok(key.to_vec())
}

#[test]
fn nothing_on_the_host_holds_the_root() {
    let (home, _, wrapped) = attacked();
    for bytes in [home.file(), wrapped] {
        assert!(!bytes.windows(16).any(|part| KEY.windows(16).any(|secret| secret == part)));
    }
}

#[test]
fn no_session_duplicates_unseals_or_changes_a_root() {
    let (home, state, _) = attacked();
    attack(&home, |tpm| {
        for root in [Root::Device, relationship(1)] {
            let held = &state.roots[&root];
            let object = (Name::of(&held.public), Some(&held.authorisation));
            let key = loaded(tpm, &state, root)?;
            // The right command shows that what is tried below is tried rightly.
            let mut hmac = Writer::new();
            hmac.sized(b"message").u16(0x0b);
            assert_eq!(every_session(tpm, &state, &HMAC, &[key], object, hmac.as_slice()), 2);

            let attacker = load_external(tpm, &own_key().0)?;
            let storage = storage_handle(&state.storage);
            let mut bare = Writer::new();
            bare.sized(&[]).u16(ALG_NULL);
            let mut inner = Writer::new();
            inner.sized(&[7; 16]).u16(ALG_AES).u16(128).u16(ALG_CFB);
            for parent in [Handle::plain(NULL), attacker, storage] {
                for parameters in [&bare, &inner] {
                    let handles = [key, parent];
                    let parameters = parameters.as_slice();
                    assert_eq!(every_session(tpm, &state, &DUPLICATE, &handles, object, parameters), 0);
                }
            }
            tpm.flush(attacker.number)?;
            assert_eq!(every_session(tpm, &state, &UNSEAL, &[key], object, &[]), 0);
            let mut authorisation = Writer::new();
            authorisation.sized(b"another");
            let parameters = authorisation.as_slice();
            assert_eq!(
                every_session(tpm, &state, &OBJECT_CHANGE_AUTH, &[key, storage], object, parameters),
                0
            );
            let mut start = Writer::new();
            start.sized(&[]).u16(0x0b);
            assert_eq!(every_session(tpm, &state, &HMAC_START, &[key], object, start.as_slice()), 0);
            let mut sign = Writer::new();
            sign.sized(&[1; 32]).u16(5).u16(0x0b).u16(0x8024).u32(NULL).sized(&[]);
            assert_eq!(every_session(tpm, &state, &SIGN, &[key], object, sign.as_slice()), 0);

            let public = tpm.read_public(key.number)?.unwrap();
            assert_eq!(public, held.public);
            assert!(!public.windows(32).any(|part| part == KEY));
            tpm.flush(key.number)?;
        }
        Ok(())
    });
}

#[test]
fn what_was_wrapped_for_the_storage_key_is_not_wrapped_anew_for_another() {
    let (home, state, wrapped) = attacked();
    let wrapped = Wrapped::parse(&wrapped).unwrap();
    let name = Name::of(&wrapped.public);
    attack(&home, |tpm| {
        // Under an ordinary storage key this is how a root is taken away: the inner key is to be had, and the
        // outer wrap goes over to a key of the attacker's.
        inner_key(tpm, &state, &wrapped)?;
        let (ordinary, key) = other_parent(tpm)?;
        let attacker = load_external(tpm, &own_key().0)?;
        let (seed, encrypted) = crypto::share(&key.point, b"DUPLICATE").unwrap();
        let duplicate = wrapping::wrap_outside(&seed, zeroize::Zeroizing::new(vec![1; 100]), &name);
        let mut parameters = Writer::new();
        parameters.sized(&duplicate).sized(&name.0).sized(&encrypted);
        with_password(tpm, &REWRAP, &[ordinary, attacker], &[], parameters.as_slice()).unwrap();
        tpm.flush(ordinary.number)?;

        let mut parameters = Writer::new();
        parameters.sized(&wrapped.duplicate).sized(&name.0).sized(&wrapped.seed);
        let handles = [storage_handle(&state.storage), attacker];
        let parameters = parameters.as_slice();
        assert_eq!(every_session(tpm, &state, &REWRAP, &handles, (state.storage.name, None), parameters), 0);
        Ok(())
    });
}

#[test]
fn no_other_parent_loads_what_is_on_the_disk_or_came_by() {
    let (home, state, wrapped) = attacked();
    let wrapped = Wrapped::parse(&wrapped).unwrap();
    attack(&home, |tpm| {
        let inner = inner_key(tpm, &state, &wrapped)?;
        let (parent, _) = other_parent(tpm)?;
        for held in state.roots.values() {
            let mut parameters = Writer::new();
            parameters.sized(&held.private).sized(&held.public);
            let done = with_password(tpm, &LOAD, &[parent], &[], parameters.as_slice());
            assert!(matches!(done, Err(Failure::Code { .. })), "{done:?}");
        }
        for inner in [&inner[..], &[]] {
            let mut parameters = Writer::new();
            parameters.sized(inner).sized(&wrapped.public).sized(&wrapped.duplicate).sized(&wrapped.seed);
            if inner.is_empty() {
                parameters.u16(ALG_NULL);
            } else {
                parameters.u16(ALG_AES).u16(128).u16(ALG_CFB);
            }
            let done = with_password(tpm, &IMPORT, &[parent], &[], parameters.as_slice());
            assert!(matches!(done, Err(Failure::Code { .. })), "{done:?}");
        }
        Ok(())
    });
}

#[test]
fn a_root_does_not_come_back_with_other_attributes() {
    let (home, state, wrapped) = attacked();
    let wrapped = Wrapped::parse(&wrapped).unwrap();
    let held = &state.roots[&relationship(1)];
    let altered = |at: usize, bits: u8| {
        let mut public = wrapped.public.clone();
        public[at] ^= bits;
        public
    };
    // Data to unseal; duplication without encryption; use with the authorisation; administration without policy;
    // another policy; and as it is.
    let publics = [
        altered(5, 0x04),
        altered(6, 0x08),
        altered(7, 0x40),
        altered(7, 0x80),
        altered(20, 0xff),
        wrapped.public.clone(),
    ];
    attack(&home, |tpm| {
        let inner = inner_key(tpm, &state, &wrapped)?;
        let storage = storage_handle(&state.storage);
        for (at, public) in publics.iter().enumerate() {
            let is_as_it_was = *public == wrapped.public;
            let mut tries: Vec<(&[u8], &[u8], &[u8])> = vec![
                (&inner, &wrapped.duplicate, &wrapped.seed),
                // What is on the disk is no duplicate.
                (&inner, &held.private, &wrapped.seed),
                (&inner, &held.private, &[]),
                (&[0; 16], &wrapped.duplicate, &wrapped.seed),
            ];
            if is_as_it_was {
                tries.remove(0);
            }
            for (key, duplicate, seed) in tries {
                let mut session = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
                let object = Duplicate { public, duplicate, seed };
                let done = tpm.import(storage, &mut session, key, &object);
                assert!(matches!(done, Err(Failure::Code { .. })), "{at}: {done:?}");
                tpm.flush(session.handle)?;
            }
            if !is_as_it_was {
                let mut session = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
                let done = tpm.load(storage, &mut session, &held.private, public);
                assert!(matches!(done, Err(Failure::Code { .. })), "{at}: {done:?}");
                tpm.flush(session.handle)?;
            }
        }
        Ok(())
    });
}

#[test]
fn without_its_authorisation_a_root_is_not_used() {
    let (home, state, _) = attacked();
    attack(&home, |tpm| {
        for root in [Root::Device, relationship(1)] {
            let key = loaded(tpm, &state, root)?;
            let mut hmac = Writer::new();
            hmac.sized(b"message").u16(0x0b);
            let object = (Name::of(&state.roots[&root].public), None);
            assert_eq!(every_session(tpm, &state, &HMAC, &[key], object, hmac.as_slice()), 0);
            tpm.flush(key.number)?;
        }
        Ok(())
    });
}
