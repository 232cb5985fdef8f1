"""The one exception that a command shows as a single line."""


class UserError(Exception):
    """Bad input: the message names the thing that is wrong and the way out.

    Commands print it as one line and exit with status 2; everything else that is raised is a defect of
    ours and keeps its traceback.
    """
