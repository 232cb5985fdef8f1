"""Pages and documents, written from finished or running workdirs."""
