//! The static keys of the cards that nodes keep their roots in, sealed under the vault key.

use akm_core::element::Description;
use akm_element::card::CardKeys;
use rusqlite::params;

use super::{Store, StoreError, first, seal};

impl Store {
    /// The keys of a card, if they are known.
    pub fn card_keys(&self, card: &Description) -> Result<Option<CardKeys>, StoreError> {
        let sql = "SELECT keys FROM card_keys WHERE manufacturer = ? AND serial = ?";
        let sealed: Option<Vec<u8>> = self.read(|connection| {
            first(connection, sql, [&card.manufacturer, &card.serial], |row| Ok(row.get("keys")?))
        })?;
        let Some(sealed) = sealed else { return Ok(None) };
        let bytes = self
            .vault()
            .open_sealed(&context(card), &sealed)
            .map_err(|_| StoreError::damaged("card_keys"))?;
        CardKeys::parse(&bytes).map(Some).ok_or_else(|| StoreError::damaged("card_keys"))
    }

    /// Keeps the keys of a card in the place of those that it had.
    pub fn save_card_keys(&self, card: &Description, keys: &CardKeys) -> Result<(), StoreError> {
        let sealed = seal(self.vault(), &context(card), &keys.emit())?;
        self.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO card_keys (manufacturer, serial, keys) VALUES (?, ?, ?)",
                params![card.manufacturer, card.serial, sealed],
            )?;
            Ok(())
        })
    }

    /// Forgets the keys of a card. Repeating changes nothing.
    pub fn forget_card_keys(&self, card: &Description) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "DELETE FROM card_keys WHERE manufacturer = ? AND serial = ?",
                params![card.manufacturer, card.serial],
            )?;
            Ok(())
        })?;
        self.forget_log()
    }
}

fn context(card: &Description) -> String {
    format!("card keys\0{}\0{}", card.manufacturer, card.serial)
}
