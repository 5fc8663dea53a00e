//! The bytes of one file, and what a power loss may make of them.
//!
//! Bytes are kept as the process sees them; for every sector that differs from the medium its old image is kept beside
//! them, so a write costs what it touches and a sync costs what was written.

use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::io;

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// A sector on the medium; `None` is all zeros.
type Image = Option<Box<[u8; SECTOR]>>;

#[derive(Debug, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    durable_len: usize,
    /// Old images of sectors written since the last sync.
    unsynced: BTreeMap<usize, Image>,
    /// Old images of sectors that a failed sync dropped: a later sync succeeds without writing them (Linux marks the
    /// pages clean after it reported the error once).
    dropped: BTreeMap<usize, Image>,
    pub(super) modified_ms: i64,
}

impl Content {
    pub(super) fn new(bytes: Vec<u8>, modified_ms: i64) -> Self {
        Self { durable_len: bytes.len(), bytes, modified_ms, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let found = usize::try_from(offset).ok().and_then(|from| self.bytes.get(from..)?.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let to = from.checked_add(data.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.keep_images(from, to);
        if to > self.bytes.len() {
            self.bytes.resize(to, 0);
        }
        self.bytes[from..to].copy_from_slice(data);
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.keep_images(len, self.bytes.len());
        self.bytes.resize(len, 0);
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.durable_len = self.bytes.len();
    }

    pub(super) fn sync_failed(&mut self) {
        self.dropped.append(&mut self.unsynced);
    }

    /// What the medium holds when nothing un-synced reached it.
    pub(super) fn durable(&self) -> Vec<u8> {
        self.after_loss(self.durable_len, || false)
    }

    /// What the medium may hold: every un-synced sector is there or not, and the length is the old one, the new one or
    /// one in between.
    pub(super) fn survivor(&self, rng: &mut SmallRng) -> Vec<u8> {
        let (short, long) = (self.durable_len.min(self.len()), self.durable_len.max(self.len()));
        let len = match rng.random_range(0..3) {
            0 => self.durable_len,
            1 => self.len(),
            _ => rng.random_range(short..=long),
        };
        self.after_loss(len, || rng.random())
    }

    fn after_loss(&self, len: usize, mut survives: impl FnMut() -> bool) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(self.bytes.len().max(self.durable_len).next_multiple_of(SECTOR), 0);
        for (sector, image) in self.dropped.iter().chain(&self.unsynced) {
            if !survives()
                && let Some(place) = bytes.get_mut(sector * SECTOR..(sector + 1) * SECTOR)
            {
                match image {
                    Some(image) => place.copy_from_slice(&image[..]),
                    None => place.fill(0),
                }
            }
        }
        bytes.resize(len, 0);
        bytes
    }

    fn keep_images(&mut self, from: usize, to: usize) {
        if from >= to {
            return;
        }
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            if self.unsynced.contains_key(&sector) {
                continue;
            }
            let image = self.dropped.remove(&sector).unwrap_or_else(|| self.image(sector));
            self.unsynced.insert(sector, image);
        }
    }

    fn image(&self, sector: usize) -> Image {
        let start = sector * SECTOR;
        let old = self.bytes.get(start..self.bytes.len().min(start + SECTOR))?;
        let mut image = Box::new([0; SECTOR]);
        image[..old.len()].copy_from_slice(old);
        image.iter().any(|byte| *byte != 0).then_some(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn durable_contents_are_those_of_the_last_sync() {
        let mut content = Content::default();
        content.write(b"one", 0).unwrap();
        content.sync();
        content.write(b"TWO and more", 0).unwrap();
        assert_eq!(content.durable(), b"one");
        content.set_len(1).unwrap();
        assert_eq!(content.durable(), b"one");
        content.set_len(5000).unwrap();
        assert_eq!(content.durable(), b"one");
        content.sync();
        assert_eq!(content.durable().len(), 5000);
        assert_eq!(&content.durable()[..2], b"T\0");
    }

    #[test]
    fn each_unsynced_sector_survives_or_not_as_a_whole() {
        let mut content = Content::new(vec![b'o'; 4 * SECTOR], 0);
        content.write(&[b'n'; 3 * SECTOR], 0).unwrap();
        let mut rng = SmallRng::seed_from_u64(1);
        let outcomes: std::collections::BTreeSet<String> = (0..200)
            .map(|_| {
                let bytes = content.survivor(&mut rng);
                assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
                bytes.chunks(SECTOR).map(|sector| sector[0] as char).collect()
            })
            .collect();
        let expected: std::collections::BTreeSet<_> =
            ["ooo", "oon", "ono", "onn", "noo", "non", "nno", "nnn"].map(|s| format!("{s}o")).into();
        assert_eq!(outcomes, expected);
    }

    #[test]
    fn a_longer_file_may_keep_any_length_in_between_and_lost_bytes_are_zeros() {
        let mut content = Content::new(b"ab".to_vec(), 0);
        content.write(&[b'x'; 2000], 2).unwrap();
        let mut rng = SmallRng::seed_from_u64(1);
        let mut lengths = [false; 3];
        for _ in 0..100 {
            let bytes = content.survivor(&mut rng);
            assert_eq!(&bytes[..2], b"ab");
            assert!(bytes[2..].iter().all(|byte| matches!(byte, 0 | b'x')));
            lengths[match bytes.len() {
                2 => 0,
                2002 => 2,
                3..=2001 => 1,
                other => panic!("{other}"),
            }] = true;
        }
        assert_eq!(lengths, [true; 3]);
    }

    #[test]
    fn a_sync_after_a_failed_one_makes_nothing_durable_that_was_not_written_again() {
        let mut content = Content::new(vec![b'o'; 2 * SECTOR], 0);
        content.write(&[b'n'; 2 * SECTOR], 0).unwrap();
        content.sync_failed();
        content.write(&[b'm'; SECTOR], SECTOR as u64).unwrap();
        content.sync();
        assert_eq!(content.durable(), [[b'o'; SECTOR], [b'm'; SECTOR]].concat());
    }

    #[test]
    fn reading_beyond_the_end_is_an_unexpected_end() {
        let content = Content::new(b"abc".to_vec(), 0);
        assert_eq!(content.read(&mut [0; 2], 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(content.read(&mut [0; 1], u64::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        content.read(&mut [], 3).unwrap();
    }
}
