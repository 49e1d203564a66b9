//! Where every random number of an engine comes from.

use sha2::{Digest, Sha256};

/// The seed of one molecule: 1 + SHA-256(run seed ‖ molecule id) mod (2³¹ − 2), so in 1 ..= 2³¹ − 2.
///
/// Never 0, which AutoDock Vina takes as "draw one". The run seed enters as its decimal text followed by a zero byte;
/// of the digest, the first eight bytes count, big-endian.
pub fn molecule_seed(run_seed: u64, molecule_id: &str) -> u32 {
    let digest = Sha256::new().chain_update(format!("{run_seed}\0{molecule_id}")).finalize();
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    1 + u32::try_from(number % ((1 << 31) - 2)).expect("a remainder below 2³¹ fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_never_change_between_versions() {
        // From Python: 1 + int.from_bytes(hashlib.sha256(b"42\0benzene").digest()[:8], "big") % (2**31 - 2)
        assert_eq!(molecule_seed(42, "benzene"), 1_852_612_572);
        assert_ne!(molecule_seed(42, "benzene"), molecule_seed(43, "benzene"));
        assert_ne!(molecule_seed(4, "2benzene"), molecule_seed(42, "benzene"));
    }
}
