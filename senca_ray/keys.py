"""The one registry of column, obs/obsm, metric and file names."""

from __future__ import annotations

# --- Words with a fixed spelling -------------------------------------------------------------------
UNDETERMINED = "undetermined"
"""The pathologist's 'cannot say': clustered like any spot, never counted in k, left out of every score."""

ANNOTATED, TRANSFERRED, SIMULATED, UNLABELLED = "annotated", "transferred", "simulated", "none"
LABEL_SOURCES = (ANNOTATED, TRANSFERRED, SIMULATED, UNLABELLED)
"""Where a section's labels come from; sections of different sources are never averaged together."""

TUNING, TEST = "tuning", "test"
ROLES = (TUNING, TEST)
"""What a cohort file lets a section be used for: choosing settings, or testing what was chosen."""

RNA, RNA_IMAGE = "rna", "rna+image"
"""Modality of a section: with or without an H&E image."""

OK, FAILED = "ok", "failed"

COMPLETE, RACED = "complete", "raced"
"""How a suggestion of a search ends, or FAILED: scored on all patients, stopped before, without a score."""

DEFAULT, TUNED = "default", "tuned"
"""Settings of a search: its own, first in every fold, and the chosen ones on the patients left out."""

FOLD_ALL, FOLD_SPLIT = "all", "split"
"""Folds of a search: tuned on everybody, and on all but the test patients that the user named."""

FIXED = "fixed"
"""Setting of methods that ignore what a study varies."""

CONSENSUS, ALL_SEEDS = "consensus", -1
"""Clustering and seed of the row that combines the partitions of all seeds of a trial."""

NO_REGION = -1
"""Region of a spot that was left out of clustering."""

UNSCORED, DROPPED, SCORED = "unscored", "dropped", "scored"
"""What becomes of `undetermined` spots: left out of the score, of clustering too, or of neither."""

OWN = "own"
"""Clustering of a method that finds regions by itself."""

MODEL_KIND, NULL, SIMPLE, PUBLISHED = "model", "null", "simple", "published"
METHOD_KINDS = (MODEL_KIND, NULL, SIMPLE, PUBLISHED)
"""What a method is there for: the platform's model, null controls, simple and strong ones, other papers'."""

OURS, PACKAGE, REIMPLEMENTED = "ours", "package", "reimplemented"
METHOD_SOURCES = (OURS, PACKAGE, REIMPLEMENTED)
"""Whose code a method runs: ours, the authors' own package, or ours after their description."""

# --- Result rows (design decision 7) ---------------------------------------------------------------
STUDY, METHOD, SETTING, SAMPLE, SEED = "study", "method", "setting", "sample", "seed"
CLUSTERING, K_POLICY, PROTOCOL = "clustering", "k_policy", "protocol"
ROW_KEY = (STUDY, METHOD, SETTING, SAMPLE, SEED, CLUSTERING, K_POLICY, PROTOCOL)
"""The key on which appending a result row is idempotent."""

STATUS, REASON = "status", "reason"
PATIENT, MODALITY, LABEL_SOURCE = "patient", "modality", "label_source"
SECTION = "section"
UNITS = (PATIENT, SECTION)
"""What a test counts as independent: patients, or against better knowledge their sections."""

K, N_SPOTS, N_SCORED = "k", "n_spots", "n_scored"
ARI, NMI, SILHOUETTE, CHAOS, PAS = "ari", "nmi", "silhouette", "chaos", "pas"
FORM = "form"
"""How attention, contrast and clustering were computed: EXACT, or LARGE above a number of spots."""
EXACT, LARGE = "exact", "large"
LABEL_F1, PAIR, PAIR_AMI = "label_f1", "pair", "pair_ami"
STABILITY, N_SEEDS = "stability", "n_seeds"
LOSS_FIRST, LOSS_LAST = "loss_first", "loss_last"
SECONDS, PEAK_MEMORY_MB, DEVICE = "seconds", "peak_memory_mb", "device"
ENCODER, FINGERPRINT, VERSIONS, CONFIG = "encoder", "fingerprint", "versions", "config"
REGIONS, LOSSES = "regions", "losses"
TYPICAL = "typical"
"""True in the row of the seed whose regions agree best with those of all other seeds of its trial."""

EMBEDDING = "embedding"
"""What a typical seed of the model or of a published method learnt: a file of its own in EMBEDDING_FOLDER."""

# --- AnnData names -----------------------------------------------------------------------------------
OBS_REGION, OBS_LABEL = "region", "label"
OBSM_SENCA, OBSM_SPATIAL = "X_senca", "spatial"

# --- Files of a shard (a folder named SAMPLE-FINGERPRINT) -----------------------------------------
SPOTS_FILE, GENES_FILE, SHARD_FILE, THUMBNAIL_FILE = (
    "spots.parquet",
    "genes.parquet",
    "shard.json",
    "thumbnail.jpg",
)
MANIFEST_FILE = "manifest.json"

# --- Files of a study (a folder) ---------------------------------------------------------------------
STUDY_FILE = "study.json"
JOURNAL_FILE = "journal.jsonl"
RESULTS_FILE = "results.parquet"
REGIONS_FILE = "regions.parquet"
SUMMARY_FILE = "summary.csv"
REPORT_FILE = "report.html"
MARKERS_FILE = "markers.parquet"
SELECTION_FILE = "selection.json"
OPTUNA_FILE = "optuna.db"
CHECKPOINT_FOLDER = "checkpoints"
EMBEDDING_FOLDER = "embeddings"
PORTRAIT_FOLDER = "portraits"
LOCK_FILE = ".lock"
LEASE_FILE = "lease.json"
"""Who runs a study that lives at an address; only there."""
