//! All that is secret in the store: the roots and host keys of generations, the module's places, the keys of cards.
//!
//! Nothing else reads or writes these columns. Each value is sealed under the vault key and bound to where it stands, so
//! that it opens nowhere else; only a place is sealed by whoever gives it. Null means erased.

use akm_core::element::Description;
use akm_core::id::RelationshipId;
use akm_core::sds::{
    ElementRoot, GenerationSecrets, HOST_KEYS_LENGTH, HostKeys, HostPart, SynchronizedDataSet, TreeRoot,
};
use akm_core::secret::Secret;
use akm_element::card::CardKeys;

use crate::store::StoreError;
use crate::store::sql::{Row, Sql, values};
use crate::vault::Vault;

/// The secrets of a generation that the module still holds. Wiped on drop.
#[derive(Debug)]
pub struct RelationshipSecrets {
    /// The root that goes into the element of each member.
    pub element_root: Option<ElementRoot>,
    /// The root of the epoch tree.
    pub tree_root: Option<TreeRoot>,
    /// Header key, tag and resync key.
    pub keys: Option<HostKeys>,
}

impl RelationshipSecrets {
    /// What goes to the host of each member; `None` if some of it is erased.
    pub fn host_part(&self) -> Option<HostPart> {
        let (tree_root, keys) = (self.tree_root.as_ref()?, self.keys.as_ref()?);
        Some(HostPart { tree_root: tree_root.duplicate(), keys: keys.duplicate() })
    }
}

/// The secrets of a relationship's present generation; `None` if there is no such relationship.
pub(in crate::store) fn of_present(
    sql: Sql<'_>,
    vault: &Vault,
    id: RelationshipId,
) -> Result<Option<RelationshipSecrets>, StoreError> {
    let query = "SELECT generation FROM relationships WHERE id = ?";
    match sql.first(query, values![&id], |row| row.get("generation"))? {
        Some(generation) => of_generation(sql, vault, id, generation),
        None => Ok(None),
    }
}

/// The secrets of one generation; `None` if there is none.
pub(in crate::store) fn of_generation(
    sql: Sql<'_>,
    vault: &Vault,
    id: RelationshipId,
    generation: u32,
) -> Result<Option<RelationshipSecrets>, StoreError> {
    let query = "SELECT element_root, tree_root, host_keys FROM generations
                 WHERE relationship = ? AND generation = ?";
    sql.first(query, values![&id, generation], |row| {
        let keys = open::<HOST_KEYS_LENGTH>(vault, row, id, generation, "host_keys")?;
        Ok(RelationshipSecrets {
            element_root: open(vault, row, id, generation, "element_root")?,
            tree_root: open(vault, row, id, generation, "tree_root")?,
            keys: keys.and_then(|keys| HostKeys::parse(keys.expose())),
        })
    })
}

/// The element root at one element version; `None` if the module does not hold it.
pub(in crate::store) fn element_root(
    sql: Sql<'_>,
    vault: &Vault,
    id: RelationshipId,
    element_version: u32,
) -> Result<Option<ElementRoot>, StoreError> {
    let query = "SELECT generation, element_root FROM generations
                 WHERE relationship = ? AND element_version = ? AND element_root IS NOT NULL
                 ORDER BY generation LIMIT 1";
    let root = sql.first(query, values![&id, element_version], |row| {
        open(vault, row, id, row.get("generation")?, "element_root")
    });
    root.map(Option::flatten)
}

/// The generations of a provisioning relationship in which its node may be, and of which the keys are held: the present
/// one, and then those that were acknowledged, the latest first.
pub(in crate::store) fn spoken(
    sql: Sql<'_>,
    id: RelationshipId,
) -> Result<Vec<SynchronizedDataSet>, StoreError> {
    let query = "SELECT g.public FROM generations g JOIN relationships r ON r.id = g.relationship
                 WHERE r.id = ? AND r.kind = 1 AND r.status <> 'ended' AND g.host_keys IS NOT NULL
                     AND (g.generation = r.generation OR EXISTS (
                         SELECT 1 FROM relationship_members m
                         WHERE m.relationship = r.id AND m.generation = g.generation
                             AND m.member_index = 1 AND m.state IN ('installed', 'active')))
                 ORDER BY g.generation = r.generation DESC, g.generation DESC";
    sql.all(query, values![&id], |row| {
        let public: Vec<u8> = row.get("public")?;
        SynchronizedDataSet::parse(&public).map_err(|_| StoreError::damaged("public"))
    })
}

/// Erases the secrets of generations that were never acknowledged by anybody, but for the present one.
pub(in crate::store) fn erase_unacknowledged(sql: Sql<'_>, id: RelationshipId) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE generations SET element_root = NULL, tree_root = NULL, host_keys = NULL WHERE relationship = ?
             AND generation > (SELECT generation FROM relationships WHERE id = ?)
             AND NOT EXISTS (SELECT 1 FROM relationship_members m
                 WHERE m.relationship = generations.relationship AND m.generation = generations.generation
                     AND m.state <> 'pending')",
        values![&id, &id],
    )?;
    Ok(())
}

/// Erases the module's places in the generations before this one.
pub(in crate::store) fn erase_places_before(
    sql: Sql<'_>,
    id: RelationshipId,
    generation: u32,
) -> Result<(), StoreError> {
    sql.execute("DELETE FROM places WHERE relationship = ? AND generation < ?", values![&id, generation])?;
    Ok(())
}

/// Keeps the secrets of a generation; its element root only if that is one of its own.
pub(in crate::store) fn save(
    sql: Sql<'_>,
    vault: &Vault,
    sds: &SynchronizedDataSet,
    secrets: &GenerationSecrets,
    with_element_root: bool,
) -> Result<(), StoreError> {
    let (id, generation) = (sds.relationship(), sds.generation());
    let sealed = |column: &str, plain: &[u8]| seal(vault, &context(id, generation, column), plain);
    let element_root =
        with_element_root.then(|| sealed("element_root", secrets.element_root.expose())).transpose()?;
    let tree_root = sealed("tree_root", secrets.host.tree_root.expose())?;
    let keys = sealed("host_keys", secrets.host.keys.emit().expose())?;
    sql.execute(
        "UPDATE generations SET element_root = ?, tree_root = ?, host_keys = ? WHERE relationship = ? AND generation = ?",
        values![element_root.as_deref(), tree_root.as_slice(), keys.as_slice(), &id, generation],
    )?;
    Ok(())
}

/// Erases the tree root of one generation.
pub(in crate::store) fn erase_tree_root(
    sql: Sql<'_>,
    id: RelationshipId,
    generation: u32,
) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE generations SET tree_root = NULL WHERE relationship = ? AND generation = ?",
        values![&id, generation],
    )?;
    Ok(())
}

/// Erases header key, tag and resync key of one generation.
pub(in crate::store) fn erase_keys(
    sql: Sql<'_>,
    id: RelationshipId,
    generation: u32,
) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE generations SET host_keys = NULL WHERE relationship = ? AND generation = ?",
        values![&id, generation],
    )?;
    Ok(())
}

/// Erases what one generation has no use for in those before it, also element roots of earlier versions.
pub(in crate::store) fn erase_before(sql: Sql<'_>, sds: &SynchronizedDataSet) -> Result<(), StoreError> {
    let id = sds.relationship();
    sql.execute(
        "UPDATE generations SET tree_root = NULL, host_keys = NULL WHERE relationship = ? AND generation < ?",
        values![&id, sds.generation()],
    )?;
    sql.execute(
        "UPDATE generations SET element_root = NULL WHERE relationship = ? AND element_version < ?",
        values![&id, sds.element_version()],
    )?;
    Ok(())
}

/// Erases all secrets of a relationship, and the module's places in it.
pub(in crate::store) fn erase_all(sql: Sql<'_>, id: RelationshipId) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE generations SET element_root = NULL, tree_root = NULL, host_keys = NULL WHERE relationship = ?",
        values![&id],
    )?;
    sql.execute("DELETE FROM places WHERE relationship = ?", values![&id])?;
    Ok(())
}

/// The module's place in a generation, as the core sealed it; `None` before the first.
pub(in crate::store) fn place(
    sql: Sql<'_>,
    id: RelationshipId,
    generation: u32,
) -> Result<Option<Vec<u8>>, StoreError> {
    let query = "SELECT place FROM places WHERE relationship = ? AND generation = ?";
    sql.first(query, values![&id, generation], |row| row.get("place"))
}

/// Keeps the module's place in a generation in the stead of the one before it.
pub(in crate::store) fn save_place(
    sql: Sql<'_>,
    id: RelationshipId,
    generation: u32,
    place: &[u8],
) -> Result<(), StoreError> {
    sql.execute(
        "INSERT INTO places (relationship, generation, place) VALUES (?, ?, ?)
         ON CONFLICT (relationship, generation) DO UPDATE SET place = excluded.place",
        values![&id, generation, place],
    )?;
    Ok(())
}

/// The static keys of a card, if they are known.
pub(in crate::store) fn card_keys(
    sql: Sql<'_>,
    vault: &Vault,
    card: &Description,
) -> Result<Option<CardKeys>, StoreError> {
    let query = "SELECT keys FROM card_keys WHERE manufacturer = ? AND serial = ?";
    let values = values![card.manufacturer.as_str(), card.serial.as_str()];
    let Some(sealed) = sql.first(query, values, |row| row.get::<Vec<u8>>("keys"))? else { return Ok(None) };
    let damaged = || StoreError::damaged("card_keys");
    let bytes = vault.open_sealed(&context_of_card(card), &sealed).map_err(|_| damaged())?;
    CardKeys::parse(&bytes).map(Some).ok_or_else(damaged)
}

/// Keeps the static keys of a card in the stead of those that it had.
pub(in crate::store) fn save_card_keys(
    sql: Sql<'_>,
    vault: &Vault,
    card: &Description,
    keys: &CardKeys,
) -> Result<(), StoreError> {
    let sealed = seal(vault, &context_of_card(card), &keys.emit())?;
    sql.execute(
        "INSERT INTO card_keys (manufacturer, serial, keys) VALUES (?, ?, ?)
         ON CONFLICT (manufacturer, serial) DO UPDATE SET keys = excluded.keys",
        values![card.manufacturer.as_str(), card.serial.as_str(), sealed.as_slice()],
    )?;
    Ok(())
}

/// Forgets the static keys of a card.
pub(in crate::store) fn forget_card_keys(sql: Sql<'_>, card: &Description) -> Result<(), StoreError> {
    sql.execute(
        "DELETE FROM card_keys WHERE manufacturer = ? AND serial = ?",
        values![card.manufacturer.as_str(), card.serial.as_str()],
    )?;
    Ok(())
}

/// Seals a value for one place in the store.
pub(in crate::store) fn seal(vault: &Vault, context: &str, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    vault.seal(context, plain).map_err(|error| StoreError::Unavailable(Box::new(error)))
}

/// Where a sealed column stands.
fn context(id: RelationshipId, generation: u32, column: &str) -> String {
    format!("generations/{id}/{generation}/{column}")
}

fn context_of_card(card: &Description) -> String {
    format!("card keys\0{}\0{}", card.manufacturer, card.serial)
}

fn open<const N: usize>(
    vault: &Vault,
    row: &Row<'_>,
    id: RelationshipId,
    generation: u32,
    column: &str,
) -> Result<Option<Secret<N>>, StoreError> {
    let Some(sealed) = row.get::<Option<Vec<u8>>>(column)? else { return Ok(None) };
    let context = context(id, generation, column);
    let plain = vault.open_sealed(&context, &sealed).map_err(|_| StoreError::damaged(&context))?;
    Secret::copy_from(&plain).map(Some).ok_or_else(|| StoreError::damaged(&context))
}
