"""Effect of the embedding dimension on SENCA-st, on your sections."""

from senca_ray.recipe import sweep_command

main = sweep_command(
    name="sweep-embedding",
    title="Effect of the embedding dimension",
    vary="embedding",
    values=(32, 64, 128, 256),
    explain="""Fit SENCA-st with RNA and image embeddings of 32 to 256 dimensions (the paper's: 128).

The shared embedding that is clustered has `bottleneck` dimensions (64); vary it with --set bottleneck=N.
""",
)

if __name__ == "__main__":
    main()
