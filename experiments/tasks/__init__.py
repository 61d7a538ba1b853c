"""What studies have in common: data, networks, training, families of cells, budgets."""
