"""Effect of the number of highly variable genes on SENCA-st, on your sections."""

from senca_ray.recipe import sweep_command

main = sweep_command(
    name="sweep-hvg",
    title="Effect of the number of highly variable genes",
    vary="hvgs",
    values=(200, 500, 1000, 2000),
    explain="""Fit SENCA-st on 200, 500 (the paper's), 1,000 and 2,000 HVGs of every section and compare.

Genes are ordered once, when a section is prepared, so every value reads a prefix of the same shard. A section
with fewer genes than the largest value is named before anything runs: ask for fewer with --values.
""",
)

if __name__ == "__main__":
    main()
