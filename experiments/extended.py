"""Methods against each other with the paper's Visium settings: its Table 2, on your sections."""

from pathlib import Path

from senca_ray.recipe import benchmark_command

main = benchmark_command(
    name="extended",
    title="Methods against each other, Visium settings (Table 2)",
    settings=Path(__file__).parents[1] / "configs" / "visium_breast.yaml",
    explain="""The benchmark with the settings of the paper's extended experiments (section 4.1.2): 1,000
HVGs, embeddings of 512 and 256 dimensions, 40 epochs. --config replaces them.

The paper reports CID44971, CID4535 and 1160920F of the breast-cancer atlas; the published scores stand beside
sections of these names, as rows of their own.
""",
)

if __name__ == "__main__":
    main()
