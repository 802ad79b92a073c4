//! What an acknowledgement means, and whether Redis is set up for it.
//!
//! Pure: what Redis says of itself goes in, a verdict comes out. [`crate::link`] asks and acts.

use crate::keys::Shard;
use std::collections::HashMap;

/// `--ack`: what has happened to an entry when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// It is on Redis' disk (`appendfsync always`, or WAITAOF on Redis ≥ 7.2).
    Fsync,
    /// The same, and on so many replicas.
    Replicated {
        /// How many replicas must have it.
        replicas: u32,
    },
    /// It is in Redis' memory, whatever Redis does about its disk.
    Memory,
}

/// What was found at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Redis' version, such as `7.0.15`.
    pub version: String,
    /// What this setting may cost, to be said at start; empty for the durable ones.
    pub warnings: Vec<String>,
}

/// What must be waited for after each enqueue, beyond Redis' answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wait {
    /// Redis' own disk: WAITAOF.
    pub(crate) disk: bool,
    /// So many replicas: WAIT.
    pub(crate) replicas: u32,
}

/// The oldest version with all that the scripts use.
const OLDEST: (u32, u32) = (7, 0);
/// The first version with WAITAOF.
const WAITAOF: (u32, u32) = (7, 2);

/// The settings that are asked for by CONFIG GET.
pub(crate) const SETTINGS: [&str; 3] = ["appendonly", "appendfsync", "no-appendfsync-on-rewrite"];

/// The answers to INFO, and to CONFIG GET of [`SETTINGS`] or why there are none.
pub(crate) struct Facts {
    info: HashMap<String, String>,
    config: Result<HashMap<String, String>, String>,
    elsewhere: Option<String>,
}

impl Facts {
    pub(crate) fn new(info: &str, config: Result<HashMap<String, String>, String>) -> Self {
        let pairs = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        let info = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self { info, config, elsewhere: None }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.info("cluster_enabled") == "1"
    }

    /// Notes a shard of which a cluster says that another node has it, and its words.
    pub(crate) fn note_elsewhere(&mut self, shard: Shard, said: &str) {
        self.elsewhere.get_or_insert_with(|| format!("{shard} ({said})"));
    }

    /// Which process, from its start to its end.
    pub(crate) fn run_id(&self) -> &str {
        self.info("run_id")
    }

    pub(crate) fn is_master(&self) -> bool {
        self.info("role") == "master"
    }

    /// How many replicas are connected and have caught up with what there was.
    pub(crate) fn connected_replicas(&self) -> usize {
        let is_replica = |key: &str| key.strip_prefix("slave").is_some_and(|n| n.parse::<u32>().is_ok());
        let online = |value: &str| value.split(',').any(|part| part == "state=online");
        self.info.iter().filter(|(key, value)| is_replica(key) && online(value)).count()
    }

    fn info(&self, key: &str) -> &str {
        self.info.get(key).map_or("", String::as_str)
    }

    fn version(&self) -> (u32, u32) {
        let mut parts = self.info("redis_version").split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// The verdict: what to wait for and what to warn of, or what a person must mend.
    pub(crate) fn judge(&self, ack: Ack) -> Result<(ServerInfo, Wait), String> {
        let version = self.info("redis_version").to_owned();
        let mut faults = Vec::new();
        if self.version() < OLDEST {
            let (major, minor) = OLDEST;
            faults.push(format!("its version is `{version}`, but {major}.{minor} or later is needed"));
        }
        if !self.is_master() {
            faults.push(format!(
                "its role is `{}` (of {}:{}), but only a master takes batches: give the master's URL",
                self.info("role"),
                self.info("master_host"),
                self.info("master_port"),
            ));
        }
        if let Some(elsewhere) = &self.elsewhere {
            faults.push(format!(
                "it is a node of a cluster, and shard {elsewhere} is on another: logweir speaks to one server, so give it \
                 a Redis that is no cluster, or the URL of one node to which `redis-cli --cluster reshard` has moved the \
                 slots of all --shards (`redis-cli CLUSTER KEYSLOT logweir:{{0}}:queue` says which, and so on)"
            ));
        }
        let policy = self.info("maxmemory_policy");
        if policy != "noeviction" {
            faults.push(format!(
                "maxmemory-policy is `{policy}`, which may evict what is not counted yet: {}",
                set("maxmemory-policy", "noeviction"),
            ));
        }
        let mut warnings = Vec::new();
        let mut wait = Wait::default();
        match ack {
            Ack::Memory => warnings.extend(self.price()),
            Ack::Fsync => wait.disk = self.disk(&mut faults, &mut warnings),
            Ack::Replicated { replicas } => {
                wait = Wait { disk: self.disk(&mut faults, &mut warnings), replicas };
            }
        }
        if faults.is_empty() { Ok((ServerInfo { version, warnings }, wait)) } else { Err(faults.join("; ")) }
    }

    /// What `--ack memory` may cost.
    fn price(&self) -> Option<String> {
        let Ok(config) = &self.config else {
            return Some(
                "acknowledged batches may be in Redis' memory only (CONFIG GET is not allowed, so it can't be said): \
                 a kill or a power cut may lose those since the last fsync or snapshot"
                    .to_owned(),
            );
        };
        let of = |key: &str| config.get(key).map_or("", String::as_str);
        match (of("appendonly"), of("appendfsync")) {
            ("yes", "always") => None,
            ("yes", fsync) => Some(format!(
                "appendfsync is `{fsync}`: a kill of Redis or a power cut may lose batches that were acknowledged in \
                 the seconds before it"
            )),
            (appendonly, _) => Some(format!(
                "appendonly is `{appendonly}`: a kill of Redis or a power cut loses every acknowledged batch since its \
                 last snapshot, or all of them"
            )),
        }
    }

    /// Whether WAITAOF is needed for the disk; notes what else is missing.
    fn disk(&self, faults: &mut Vec<String>, warnings: &mut Vec<String>) -> bool {
        let config = match &self.config {
            Ok(config) => config,
            Err(why) => {
                faults.push(format!(
                    "CONFIG GET is not allowed ({why}), so it can't be said whether batches reach the disk: allow it \
                     with `redis-cli ACL SETUSER NAME +config|get`, or use `--ack memory` if the loss is acceptable"
                ));
                return false;
            }
        };
        let of = |key: &str| config.get(key).map_or("", String::as_str);
        if of("appendonly") != "yes" {
            faults.push(format!("appendonly is `{}`: {}", of("appendonly"), set("appendonly", "yes")));
        } else if self.first_rewrite_runs() {
            faults.push(
                "the append-only file is being rewritten for the first time, and if appendonly has only just been \
                 switched on, a restart would find nothing until that is done: this passes by itself"
                    .to_owned(),
            );
        }
        match of("appendfsync") {
            "always" => {
                if of("no-appendfsync-on-rewrite") == "yes" {
                    faults.push(format!(
                        "no-appendfsync-on-rewrite is `yes`, so that nothing is synced while the file is rewritten: {}",
                        set("no-appendfsync-on-rewrite", "no"),
                    ));
                }
                false
            }
            "everysec" if self.version() >= WAITAOF => {
                warnings.push(
                    "appendfsync is `everysec`: each acknowledgement waits for the next fsync, up to a second; \
                     `always` is faster"
                        .to_owned(),
                );
                true
            }
            other => {
                faults.push(format!(
                    "appendfsync is `{other}`, by which acknowledged batches may be lost: {}",
                    set("appendfsync", "always"),
                ));
                false
            }
        }
    }

    /// Until the rewrite that follows `CONFIG SET appendonly yes` is done, a restart finds none of it. The first
    /// rewrite of a Redis that was started empty with `appendonly yes` looks alike, and is refused too, for the
    /// seconds that it takes.
    fn first_rewrite_runs(&self) -> bool {
        let on = |key: &str| self.info(key) == "1";
        self.info("aof_base_size") == "0" && (on("aof_rewrite_in_progress") || on("aof_rewrite_scheduled"))
    }
}

fn set(setting: &str, value: &str) -> String {
    format!(
        "run `redis-cli CONFIG SET {setting} {value}`, and write `{setting} {value}` into redis.conf for the next start"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: &str, info: &str, config: &[(&str, &str)]) -> Facts {
        let mut all = HashMap::from([
            ("appendonly".to_owned(), "yes".to_owned()),
            ("appendfsync".to_owned(), "always".to_owned()),
            ("no-appendfsync-on-rewrite".to_owned(), "no".to_owned()),
        ]);
        all.extend(config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        // The last of two lines with one key holds, so that a test may change one.
        let info = format!(
            "# Server\r\nredis_version:{version}\r\nrun_id:abc\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n\
             aof_base_size:88\r\naof_rewrite_in_progress:0\r\n{info}"
        );
        Facts::new(&info, Ok(all))
    }

    #[test]
    fn a_durable_redis_fits_without_a_word() {
        let (info, wait) = facts("7.0.15", "", &[]).judge(Ack::Fsync).unwrap();
        assert_eq!(info, ServerInfo { version: "7.0.15".to_owned(), warnings: vec![] });
        assert_eq!(wait, Wait::default());
        let (info, wait) = facts("7.0.15", "", &[]).judge(Ack::Replicated { replicas: 2 }).unwrap();
        assert_eq!((info.warnings.len(), wait), (0, Wait { disk: false, replicas: 2 }));
        assert_eq!(facts("7.0.15", "", &[]).judge(Ack::Memory).unwrap().0.warnings, Vec::<String>::new());
    }

    #[test]
    fn replicas_count_once_they_are_online() {
        let info = "connected_slaves:3\r\nslave0:ip=1,port=2,state=online,offset=5,lag=0\r\n\
                    slave1:ip=1,port=3,state=wait_bgsave,offset=0,lag=0\r\nslave2:ip=1,state=online\r\n\
                    slave_repl_offset:5\r\n";
        assert_eq!(facts("7.0.15", info, &[]).connected_replicas(), 2);
        assert_eq!(facts("7.0.15", "", &[]).connected_replicas(), 0);
    }

    #[test]
    fn what_is_missing_is_named_with_its_value_and_its_remedy() {
        for (version, info, config, says) in [
            ("7.0.15", "", ("appendonly", "no"), "redis-cli CONFIG SET appendonly yes"),
            ("7.0.15", "", ("appendfsync", "everysec"), "redis-cli CONFIG SET appendfsync always"),
            ("7.2.0", "", ("appendfsync", "no"), "redis-cli CONFIG SET appendfsync always"),
            ("7.2.0", "", ("no-appendfsync-on-rewrite", "yes"), "CONFIG SET no-appendfsync-on-rewrite no"),
            (
                "7.0.15",
                "maxmemory_policy:allkeys-lru\r\n",
                ("", ""),
                "CONFIG SET maxmemory-policy noeviction",
            ),
            ("7.0.15", "role:slave\r\nmaster_host:db\r\nmaster_port:6379\r\n", ("", ""), "of db:6379"),
            ("6.2.14", "", ("", ""), "`6.2.14`, but 7.0"),
            ("7.0.15", "aof_base_size:0\r\naof_rewrite_in_progress:1\r\n", ("", ""), "passes by itself"),
        ] {
            for ack in [Ack::Fsync, Ack::Replicated { replicas: 1 }] {
                let said = facts(version, info, &[config]).judge(ack).unwrap_err();
                assert!(said.contains(says), "{says}: {said}");
                assert!(said.contains(config.1), "{said}");
            }
        }
    }

    #[test]
    fn all_faults_are_said_at_once() {
        let facts = facts(
            "7.0.15",
            "maxmemory_policy:volatile-ttl\r\n",
            &[("appendonly", "no"), ("appendfsync", "no")],
        );
        let said = facts.judge(Ack::Fsync).unwrap_err();
        for part in ["volatile-ttl", "appendonly yes", "appendfsync always"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn since_7_2_everysec_is_waited_for() {
        let (info, wait) = facts("7.2.4", "", &[("appendfsync", "everysec")]).judge(Ack::Fsync).unwrap();
        assert!(wait.disk && info.warnings[0].contains("everysec"));
        assert!(!facts("8.0.0", "", &[]).judge(Ack::Fsync).unwrap().1.disk);
    }

    #[test]
    fn memory_says_its_price_and_needs_no_config() {
        for (config, says) in [
            (("appendonly", "no"), "appendonly is `no`"),
            (("appendfsync", "everysec"), "seconds before it"),
            (("appendfsync", "no"), "appendfsync is `no`"),
        ] {
            let (info, _) = facts("7.0.15", "", &[config]).judge(Ack::Memory).unwrap();
            assert!(info.warnings[0].contains(says), "{:?}", info.warnings);
        }
        let mut blind = facts("7.0.15", "", &[]);
        blind.config = Err("NOPERM".to_owned());
        assert_eq!(blind.judge(Ack::Memory).unwrap().0.warnings.len(), 1);
        assert!(blind.judge(Ack::Fsync).unwrap_err().contains("+config|get"));
        let evicting = facts("7.0.15", "maxmemory_policy:allkeys-lfu\r\n", &[]);
        assert!(evicting.judge(Ack::Memory).unwrap_err().contains("allkeys-lfu"));
    }
}
