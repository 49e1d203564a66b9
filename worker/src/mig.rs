//! The parts into which MIG splits a GPU, as `nvidia-smi --list-gpus` tells of them. To CUDA they are the devices then, not the GPU,
//! which is none even if it has no parts.

/// A part of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The name for good of the GPU that it is a part of.
    pub(crate) of: String,
    /// How much of it, such as `1g.10gb`.
    pub(crate) profile: String,
    /// Its own name for good.
    pub(crate) uuid: String,
}

/// All parts that a listing tells of; otherwise the line that can't be read.
pub(crate) fn parts(listing: &str) -> Result<Vec<Part>, &str> {
    let (mut parts, mut of) = (Vec::new(), None);
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        match words[..] {
            ["GPU", _] => of = uuid(line, "GPU-"),
            ["MIG", profile] => {
                let part = of.zip(uuid(line, "MIG-")).ok_or(line)?;
                let [of, uuid] = [part.0, part.1].map(str::to_owned);
                parts.push(Part { of, profile: profile.to_owned(), uuid });
            }
            _ => {}
        }
    }
    Ok(parts)
}

/// The names of the GPUs that are in MIG mode, of lines `<name>, <mode>`; otherwise the line that can't be read.
pub(crate) fn in_mode(modes: &str) -> Result<Vec<&str>, &str> {
    let mut in_mode = Vec::new();
    for line in modes.lines().filter(|line| !line.trim().is_empty()) {
        let mut fields = line.split(',').map(str::trim);
        let uuid = fields.next().filter(|uuid| is_uuid(uuid, "GPU-")).ok_or(line)?;
        // A GPU that can't be split has `[N/A]`.
        if fields.next().ok_or(line)? == "Enabled" {
            in_mode.push(uuid);
        }
    }
    Ok(in_mode)
}

/// The name in `… (UUID: <name>)`.
fn uuid<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    let (_, uuid) = line.rsplit_once("(UUID: ")?;
    let uuid = uuid.trim_end().strip_suffix(')')?;
    is_uuid(uuid, prefix).then_some(uuid)
}

/// Whether a text is such a name; drivers before 470 name a part by its GPU and two numbers, `MIG-GPU-<…>/7/0`.
pub(crate) fn is_uuid(text: &str, prefix: &str) -> bool {
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '/');
    text.len() > prefix.len() && text.starts_with(prefix) && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of four A100 is split, driver of August 2023 (github.com/influxdata/telegraf/issues/5812).
    const PARTLY: &str = include_str!("../../tests/golden/nvidia-smi-2023-a100-partly-mig.txt");
    /// Driver 535.216.01 (github.com/DataDog/datadog-agent/pull/33120).
    const SEVEN: &str = include_str!("../../tests/golden/nvidia-smi-535-a100-mig.txt");
    /// Driver 460.80 (`github.com/DicardoX/Oh_My_TensorRT_ToolKit`).
    const OLD: &str = include_str!("../../tests/golden/nvidia-smi-460-a100-mig.txt");
    /// Driver 535.129.03 (github.com/akash-network/provider-configs/pull/12).
    const WHOLE: &str = include_str!("../../tests/golden/nvidia-smi-535-rtx4000.txt");

    #[test]
    fn parts_are_read_from_what_drivers_really_said() {
        let profiles = |listing| -> Vec<String> {
            parts(listing)
                .unwrap()
                .into_iter()
                .map(|part| format!("{} {}", part.profile, part.uuid))
                .collect()
        };
        assert!(profiles(WHOLE).is_empty());
        assert_eq!(profiles(SEVEN).len(), 7);
        assert_eq!(profiles(SEVEN)[6], "1g.10gb MIG-1aae4990-b962-574e-8375-119d6d9b9687");
        let partly = parts(PARTLY).unwrap();
        assert_eq!(partly.len(), 4);
        assert!(partly.iter().all(|part| part.of == "GPU-513536b6-7d19-9063-b049-1e69664bb298"));
        let old = profiles(OLD);
        assert_eq!(old[1], "2g.10gb MIG-GPU-9de3d0e8-33f5-10dc-0c79-2c88a7ab0a23/3/0");
    }

    #[test]
    fn a_part_without_a_gpu_or_a_name_is_refused() {
        let part = SEVEN.lines().nth(1).unwrap();
        assert_eq!(parts(part), Err(part));
        let nameless = SEVEN.replace("UUID: MIG-feb88891", "UUID: [Unknown Error] feb88891");
        assert!(parts(&nameless).unwrap_err().contains("[Unknown Error]"));
    }

    /// Two modes of github.com/Syllo/nvtop/pull/470, whose query asked for no name.
    #[test]
    fn a_gpu_that_can_not_be_split_is_not_in_mig_mode() {
        let modes = |mode: &str| format!("GPU-c7b57be0-94ff-d352-a59b-d0ee00aeed43, {mode}\n");
        assert!(in_mode(&modes("[N/A]")).unwrap().is_empty());
        assert!(in_mode(&modes("Disabled")).unwrap().is_empty());
        assert_eq!(in_mode(&modes("Enabled")).unwrap(), ["GPU-c7b57be0-94ff-d352-a59b-d0ee00aeed43"]);
        assert_eq!(in_mode("[N/A]\n"), Err("[N/A]"));
        assert_eq!(in_mode("GPU-1\n"), Err("GPU-1"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_listings_give_names_that_can_be_told_to_a_program(any in any::<String>(), at in 0..SEVEN.len()) {
            let damaged = SEVEN[..at].to_owned() + &any;
            for text in [&any, &damaged] {
                let all = parts(text).unwrap_or_default();
                prop_assert!(all.iter().all(|part| is_uuid(&part.uuid, "MIG-") && is_uuid(&part.of, "GPU-")));
                prop_assert!(in_mode(text).unwrap_or_default().iter().all(|uuid| is_uuid(uuid, "GPU-")));
            }
        }
    }
}
