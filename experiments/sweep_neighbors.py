"""Effect of the neighbour count on SENCA-st: the paper's Table 5, on your sections."""

from senca_ray.recipe import sweep_command

main = sweep_command(
    name="sweep-neighbors",
    title="Effect of the neighbour count (SENCA-st, Table 5)",
    vary="neighbors",
    values=(4, 8, 16),
    explain="""Fit SENCA-st with 4, 8 and 16 neighbours on every section and compare.
""",
)

if __name__ == "__main__":
    main()
