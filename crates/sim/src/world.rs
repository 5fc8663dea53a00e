//! One simulated machine: its disk, its clock and its randomness.

use crate::{SimClock, SimDisk};
use rivermere_base::{Doors, Rng, SeededRng};
use std::sync::Arc;

/// A machine in memory. The same seed and the same calls give the same run.
#[derive(Clone, Debug)]
pub struct World {
    pub disk: SimDisk,
    pub clock: SimClock,
    pub rng: Arc<SeededRng>,
}

impl World {
    /// An empty disk, a clock at its start, and a generator, all from `seed`.
    pub fn new(seed: u64) -> Self {
        let clock = SimClock::new();
        let rng = Arc::new(SeededRng::new(seed));
        Self { disk: SimDisk::with_clock(rng.next_u64(), clock.clone()), clock, rng }
    }

    /// The doors of this machine, for an assembly to run behind.
    pub fn doors(&self) -> Doors {
        Doors { clock: Arc::new(self.clock.clone()), rng: self.rng.clone(), disk: Arc::new(self.disk.clone()) }
    }

    /// The machine after a power loss: see [`SimDisk::reboot`]. Clock and generator go on.
    #[must_use]
    pub fn reboot(&self) -> Self {
        Self { disk: self.disk.reboot(), ..self.clone() }
    }

    /// The machine after a power loss that took everything un-synced: see [`SimDisk::reboot_strict`].
    #[must_use]
    pub fn reboot_strict(&self) -> Self {
        Self { disk: self.disk.reboot_strict(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let ids = |seed| World::new(seed).doors().rng.uuid();
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
    }

    #[test]
    fn a_reboot_keeps_the_clock_and_what_was_synced() {
        let world = World::new(1);
        world.doors().disk.write_atomic(Path::new("/a"), b"1").unwrap();
        world.clock.set_ms(5);
        let world = world.reboot_strict();
        assert_eq!(world.doors().clock.now_ms(), 5);
        assert_eq!(world.doors().disk.read(Path::new("/a")).unwrap(), b"1");
    }
}
