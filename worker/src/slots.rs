//! The cores of this machine, handed to attempts.

/// Cores in use and free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots {
    cores: u32,
    free: u32,
}

impl Slots {
    pub(crate) const fn new(cores: u32) -> Self {
        Self { cores, free: cores }
    }

    /// How many tasks of so many threads fit now.
    pub(crate) const fn fit(self, threads: u32) -> u32 {
        self.free / if threads == 0 { 1 } else { threads }
    }

    /// Takes the cores of one task. A repeated answer of Redis may give more than fits: then it is over-booked rather than lost.
    pub(crate) fn take(&mut self, threads: u32) {
        self.free = self.free.saturating_sub(threads);
    }

    /// Gives the cores of one task back; `busy` is what the attempts that still run use.
    pub(crate) fn settle(&mut self, busy: u32) {
        self.free = self.cores.saturating_sub(busy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_divided_by_threads() {
        let mut slots = Slots::new(8);
        assert_eq!((slots.fit(1), slots.fit(3), slots.fit(9)), (8, 2, 0));
        slots.take(3);
        assert_eq!(slots.fit(3), 1);
        slots.settle(0);
        assert_eq!(slots.fit(1), 8);
    }

    #[test]
    fn over_booking_is_settled() {
        let mut slots = Slots::new(2);
        slots.take(3);
        assert_eq!(slots.fit(1), 0);
        slots.settle(1);
        assert_eq!(slots.fit(1), 1);
    }
}
