"""Marker genes of the regions that SENCA-st finds: the paper's Table 3, on your sections."""

from senca_ray.recipe import markers_command

main = markers_command(
    name="markers",
    title="Marker genes of regions (Table 3)",
    k="auto",
    explain="""Fit SENCA-st on every section and test every gene in every region against the rest of the
section: Wilcoxon rank-sum test, Benjamini-Hochberg over all genes of the shard (not the HVGs alone),
effect size, fraction of spots that express it.

The regions are those that the seeds agree on. They were found on the same counts, so the p-values are too
small: read them as a ranking, and confirm a marker on other sections.

\b
The squamous-cell-carcinoma settings of the paper (section 4.2) can be read in two ways:
  --config configs/scc_as_her2st.yaml   500 HVGs, 128/256 dimensions, 40 epochs
  --config configs/scc_as_visium.yaml   1,000 HVGs, 256/512 dimensions, 40 epochs
Its seven regions: --k fixed:7
""",
)

if __name__ == "__main__":
    main()
